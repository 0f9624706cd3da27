"""Every differentiable operation: `op`, and `op_backward` directly below it.

A backward function is a function of arrays: op_backward(dout, **saved) -> one gradient per input, None for an input
that needs none. It can be called without a graph, in a debugger for instance.
"""

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
    relu,
    sigmoid,
    silu,
    sqrt,
    sub,
    tanh,
    where,
)
from minigrad.ops.linalg import matmul
from minigrad.ops.nn import (
    causal_self_attention,
    dropout,
    embedding,
    gelu,
    layernorm,
    linear,
    linear_cross_entropy,
    log_softmax,
    rmsnorm,
    scaled_dot_product_attention,
    softmax,
    softmax_cross_entropy,
)
from minigrad.ops.reduce import max, mean, min, sum, var
from minigrad.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    getitem,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)

__all__ = [
    "abs", "add", "astype", "broadcast_to", "causal_self_attention", "clip", "concatenate", "div",
    "dropout", "embedding", "exp", "expand_dims", "gelu", "getitem", "layernorm", "linear",
    "linear_cross_entropy", "log", "log_softmax", "matmul", "max", "maximum", "mean", "min", "minimum", "mul", "neg",
    "pow", "relu", "reshape", "rmsnorm", "scaled_dot_product_attention", "sigmoid", "silu", "softmax",
    "softmax_cross_entropy", "split", "sqrt", "squeeze", "stack", "sub", "sum", "swapaxes", "tanh", "transpose", "var",
    "where",
]  # fmt: skip
