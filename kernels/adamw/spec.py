"""What tests, gates and benchmarks need to know of adamw."""

KERNELS = ("adamw_step", "fused_adamw_step")
