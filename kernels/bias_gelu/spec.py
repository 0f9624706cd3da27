"""What tests, gates and benchmarks need to know of bias_gelu."""

KERNELS = ("bias_gelu_forward", "bias_gelu_backward")
