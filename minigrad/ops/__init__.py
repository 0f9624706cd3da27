"""Every differentiable operation: `op`, and `op_backward` directly below it.

A backward function is a function of arrays: op_backward(dout, **saved) -> one gradient per input, None for an input
that needs none. It can be called without a graph, in a debugger for instance.
"""

from minigrad.ops.activation import (
    elu,
    logsigmoid,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from minigrad.ops.attention import causal_self_attention, flash_attention
from minigrad.ops.conv import sliding_windows
from minigrad.ops.cumulative import (
    cumprod,
    cumsum,
    prod,
)
from minigrad.ops.elementwise import (
    abs,
    add,
    astype,
    clip,
    div,
    exp,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    rsqrt,
    sqrt,
    sub,
    where,
)
from minigrad.ops.indexing import getitem
from minigrad.ops.joining import (
    concatenate,
    split,
    stack,
)
from minigrad.ops.linalg import einsum, matmul
from minigrad.ops.loss import linear_cross_entropy, softmax_cross_entropy
from minigrad.ops.nn import (
    embedding,
    gelu,
    layernorm,
    linear,
    log_softmax,
    rmsnorm,
    seeded_dropout,
    softmax,
)
from minigrad.ops.pointwise_loss import binary_cross_entropy
from minigrad.ops.reduce import (
    amax,
    amin,
    mean,
    norm,
    sum,
    var,
)
from minigrad.ops.rounding import (
    remainder,
)
from minigrad.ops.shape import (
    broadcast_to,
    expand_dims,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from minigrad.ops.transcendental import (
    cos,
    exp2,
    expm1,
    log1p,
    log2,
    log10,
    sin,
)

__all__ = [
    "abs",
    "add",
    "amax",
    "amin",
    "astype",
    "binary_cross_entropy",
    "broadcast_to",
    "causal_self_attention",
    "clip",
    "concatenate",
    "cos",
    "cumprod",
    "cumsum",
    "div",
    "einsum",
    "elu",
    "embedding",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "flash_attention",
    "gelu",
    "getitem",
    "layernorm",
    "linear",
    "linear_cross_entropy",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logsigmoid",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mul",
    "neg",
    "norm",
    "pow",
    "prod",
    "relu",
    "remainder",
    "reshape",
    "rmsnorm",
    "rsqrt",
    "seeded_dropout",
    "sigmoid",
    "silu",
    "sin",
    "sliding_windows",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "var",
    "where",
]
