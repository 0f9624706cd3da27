"""Rows of a table by their numbers, and the gradient of the table."""
