"""What tests, gates and benchmarks need to know of cast."""

KERNELS = ("cast",)
