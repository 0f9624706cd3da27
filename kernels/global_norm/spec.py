"""What tests, gates and benchmarks need to know of global_norm."""

KERNELS = ("global_norm",)
