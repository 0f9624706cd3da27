"""Conversion between storage types, rounded once."""
