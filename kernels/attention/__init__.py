"""Scaled dot-product attention with a causal mask and dropout."""
