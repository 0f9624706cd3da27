"""What tests, gates and benchmarks need to know of attention."""

KERNELS = ("attention_forward", "attention_backward")
