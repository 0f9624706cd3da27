"""GELU, exact and in its tanh form (Hendrycks & Gimpel 2016)."""
