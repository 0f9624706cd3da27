"""All operations as functions, under NumPy's names and PyTorch's, with NumPy's keywords or PyTorch's.

`axis`, `keepdims` may be spelled `dim`, `keepdim`. Nearly every function is a method of Tensor as well.
"""

import functools

from minigrad import ops
from minigrad.ops import (  # noqa: F401
    abs,
    add,
    astype,
    broadcast_to,
    clip,
    div,
    exp,
    getitem,
    layernorm,
    log,
    matmul,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    relu,
    reshape,
    sigmoid,
    silu,
    softmax_cross_entropy,
    sqrt,
    sub,
    swapaxes,
    tanh,
    transpose,
    where,
)


def _either_spelling(op):
    """`op`, taking PyTorch's `dim` and `keepdim` for `axis` and `keepdims`."""

    @functools.wraps(op)
    def spelled(*args, **kwargs):
        for torch_name, numpy_name in (("dim", "axis"), ("keepdim", "keepdims")):
            if torch_name in kwargs:
                if numpy_name in kwargs:
                    raise TypeError(f"{op.__name__}: give {numpy_name} or {torch_name}, not both")
                kwargs[numpy_name] = kwargs.pop(torch_name)
        return op(*args, **kwargs)

    return spelled


sum, mean, var, max, min, softmax, log_softmax, concatenate, stack, squeeze, expand_dims, split = map(
    _either_spelling,
    (
        ops.sum, ops.mean, ops.var, ops.max, ops.min, ops.softmax, ops.log_softmax, ops.concatenate,
        ops.stack, ops.squeeze, ops.expand_dims, ops.split,
    ),
)  # fmt: skip

# the other library's name for the same function
absolute, subtract, multiply, divide, true_divide, power, negative = abs, sub, mul, div, div, pow, neg
amax, amin, cat, unsqueeze, clamp = max, min, concatenate, expand_dims, clip
cross_entropy, layer_norm = softmax_cross_entropy, layernorm


def permute(x, *axes):
    """Reorder the axes by a full permutation, as in PyTorch."""
    return ops.shape.permute(x, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


def view(x, *shape):
    """PyTorch's name for reshape."""
    return reshape(x, *shape)


def expand(x, *shape):
    """PyTorch's broadcast_to: the shape as one tuple or as several ints, where -1 keeps an axis as it is."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    kept = (1,) * (len(shape) - x.ndim) + x.shape
    return broadcast_to(x, tuple(old if n == -1 else n for n, old in zip(shape, kept, strict=True)))


def flatten(x):
    """All elements along one axis."""
    return reshape(x, -1)


def __getattr__(name):
    """The operations of neural networks are those of `minigrad.ops` as they are."""
    if name in ops.__all__:
        return getattr(ops, name)
    raise AttributeError(f"module 'minigrad.functional' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *ops.__all__})


METHODS = (
    "abs",
    "absolute",
    "add",
    "amax",
    "amin",
    "astype",
    "broadcast_to",
    "clamp",
    "clip",
    "div",
    "exp",
    "expand",
    "expand_dims",
    "flatten",
    "gelu",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mul",
    "neg",
    "permute",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "sub",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "unsqueeze",
    "var",
    "view",
)
