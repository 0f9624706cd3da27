"""A bias and GELU."""
