"""Root mean square normalisation of the last axis (Zhang & Sennrich 2019)."""
