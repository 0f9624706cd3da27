"""The Euclidean norm of a list of arrays."""
