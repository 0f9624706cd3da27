"""Every kernel in CUDA, under the same names: sources in the .cu files, and beside each its launcher.

The same launchers serve a GPU, through CuPy, and the simulated device, which runs the same sources on the CPU.
"""

from kernels.cuda.adamw import adamw_step
from kernels.cuda.attention import attention_backward, attention_forward
from kernels.cuda.bias_gelu import bias_gelu_backward, bias_gelu_forward
from kernels.cuda.cast import cast
from kernels.cuda.dropout import dropout_backward, dropout_forward
from kernels.cuda.embedding import embedding_backward, embedding_forward
from kernels.cuda.fused_adamw import fused_adamw_step
from kernels.cuda.gelu import gelu_backward, gelu_forward
from kernels.cuda.global_norm import global_norm
from kernels.cuda.layernorm import layernorm_backward, layernorm_forward
from kernels.cuda.linear import linear_backward, linear_forward
from kernels.cuda.linear_cross_entropy import linear_cross_entropy_backward, linear_cross_entropy_forward
from kernels.cuda.residual_layernorm import residual_layernorm_backward, residual_layernorm_forward
from kernels.cuda.scale_and_check import scale_and_check
from kernels.cuda.softmax_cross_entropy import softmax_cross_entropy_backward, softmax_cross_entropy_forward

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
