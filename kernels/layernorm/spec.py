"""What tests, gates and benchmarks need to know of layernorm."""

KERNELS = ("layernorm_forward", "layernorm_backward")
