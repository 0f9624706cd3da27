"""The kernels for NumPy arrays, compiled by Numba: one file an op, checked against `kernels.reference`."""

from kernels.cpu.adamw import adamw_step
from kernels.cpu.attention import attention_backward, attention_forward
from kernels.cpu.bias_gelu import bias_gelu_backward, bias_gelu_forward
from kernels.cpu.cast import cast
from kernels.cpu.dropout import dropout_backward, dropout_forward
from kernels.cpu.embedding import embedding_backward, embedding_forward
from kernels.cpu.fused_adamw import fused_adamw_step
from kernels.cpu.gelu import gelu_backward, gelu_forward
from kernels.cpu.global_norm import global_norm
from kernels.cpu.layernorm import layernorm_backward, layernorm_forward
from kernels.cpu.linear import linear_backward, linear_forward
from kernels.cpu.linear_cross_entropy import linear_cross_entropy_backward, linear_cross_entropy_forward
from kernels.cpu.residual_layernorm import residual_layernorm_backward, residual_layernorm_forward
from kernels.cpu.scale_and_check import scale_and_check
from kernels.cpu.softmax_cross_entropy import softmax_cross_entropy_backward, softmax_cross_entropy_forward

__all__ = [
    "adamw_step",
    "attention_backward",
    "attention_forward",
    "bias_gelu_backward",
    "bias_gelu_forward",
    "cast",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "fused_adamw_step",
    "gelu_backward",
    "gelu_forward",
    "global_norm",
    "layernorm_backward",
    "layernorm_forward",
    "linear_backward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
    "linear_forward",
    "residual_layernorm_backward",
    "residual_layernorm_forward",
    "scale_and_check",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]
