"""What tests, gates and benchmarks need to know of gelu."""

KERNELS = ("gelu_forward", "gelu_backward")
