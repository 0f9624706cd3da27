"""Dropout with masks from a counter-based generator."""
