"""What tests, gates and benchmarks need to know of scale_and_check."""

KERNELS = ("scale_and_check",)
