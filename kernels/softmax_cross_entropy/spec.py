"""What tests, gates and benchmarks need to know of softmax_cross_entropy."""

KERNELS = ("softmax_cross_entropy_forward", "softmax_cross_entropy_backward")
