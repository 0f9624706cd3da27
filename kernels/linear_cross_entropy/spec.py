"""What tests, gates and benchmarks need to know of linear_cross_entropy."""

KERNELS = ("linear_cross_entropy_forward", "linear_cross_entropy_backward")
