"""What tests, gates and benchmarks need to know of linear."""

KERNELS = ("linear_forward", "linear_backward")
