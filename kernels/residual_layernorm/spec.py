"""What tests, gates and benchmarks need to know of residual_layernorm."""

KERNELS = ("residual_layernorm_forward", "residual_layernorm_backward")
