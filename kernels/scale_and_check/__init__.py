"""Multiply arrays by a number and tell whether all elements were finite."""
