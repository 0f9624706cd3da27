"""Layer normalisation over the last axis (Ba et al. 2016)."""
