"""What tests, gates and benchmarks need to know of dropout."""

KERNELS = ("dropout_forward", "dropout_backward")
