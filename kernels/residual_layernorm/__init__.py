"""A residual sum and its layer normalisation."""
