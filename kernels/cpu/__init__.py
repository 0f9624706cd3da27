"""What the compiled kernels for NumPy arrays share: Numba's settings, their cache, matrix products and packing."""
