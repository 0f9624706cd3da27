"""What tests, gates and benchmarks need to know of embedding."""

KERNELS = ("embedding_forward", "embedding_backward")
