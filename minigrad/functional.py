"""All operations as functions, under NumPy's names and PyTorch's, with PyTorch's keywords or NumPy's.

Signatures are PyTorch's. `axis`, `keepdims`, `ddof` are taken too and mean what they mean in NumPy, where `dim` means
something else: max(x, dim=0) is (values, indices), max(x, axis=0) the values. A call that both libraries take and
answer differently is refused (`minigrad/ambiguous.py`). Nearly every function is a method of Tensor as well.
"""

from minigrad import ops
from minigrad.ops import (  # noqa: F401
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
from minigrad.ops.attention import scaled_dot_product_attention  # noqa: F401
from minigrad.ops.conv import (  # noqa: F401
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    max_pool1d,
    max_pool2d,
)
from minigrad.ops.indexing import (  # noqa: F401
    diagonal,
    gather,
    getitem,
    index_select,
    masked_fill,
    masked_select,
    take_along_axis,
    take_along_dim,
    trace,
    tril,
    triu,
)
from minigrad.ops.joining import (  # noqa: F401
    chunk,
    concatenate,
    flip,
    hstack,
    pad,
    repeat,
    repeat_interleave,
    roll,
    split,
    stack,
    tile,
    unbind,
    vstack,
)
from minigrad.ops.linalg import (  # noqa: F401
    bmm,
    dot,
    einsum,
    inner,
    matmul,
    mm,
    mv,
    outer,
    vdot,
)
from minigrad.ops.loss import (  # noqa: F401
    cross_entropy,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    one_hot,
)
from minigrad.ops.nn import (  # noqa: F401
    dropout,
    layer_norm,
    log_softmax,
    rms_norm,
    softmax,
)
from minigrad.ops.reduce import (  # noqa: F401
    all,
    amax,
    amin,
    any,
    count_nonzero,
    cumsum,
    logsumexp,
    mean,
    norm,
    prod,
    std,
    sum,
    var,
)
from minigrad.ops.shape import (  # noqa: F401
    broadcast_to,
    expand,
    expand_as,
    expand_dims,
    flatten,
    moveaxis,
    permute,
    ravel,
    reshape,
    reshape_as,
    squeeze,
    swapaxes,
    swapdims,
    transpose,
    unflatten,
    view,
    view_as,
)
from minigrad.ops.sorting import (  # noqa: F401
    ValuesAndIndices,
    argmax,
    argmin,
    argsort,
    max,
    min,
    sort,
    topk,
)

# the other library's name for the same function
absolute, subtract, multiply, divide, true_divide, power, negative = abs, sub, mul, div, div, pow, neg
cat = concat = concatenate
unsqueeze, clamp = expand_dims, clip
movedim = moveaxis


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
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "astype",
    "bmm",
    "broadcast_to",
    "chunk",
    "clamp",
    "clip",
    "count_nonzero",
    "cumsum",
    "diagonal",
    "div",
    "dot",
    "exp",
    "expand",
    "expand_as",
    "expand_dims",
    "flatten",
    "flip",
    "gather",
    "gelu",
    "index_select",
    "inner",
    "log",
    "log_softmax",
    "logsumexp",
    "masked_fill",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "moveaxis",
    "movedim",
    "mul",
    "mv",
    "neg",
    "norm",
    "outer",
    "permute",
    "pow",
    "prod",
    "ravel",
    "relu",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "roll",
    "sigmoid",
    "silu",
    "softmax",
    "sort",
    "split",
    "sqrt",
    "squeeze",
    "std",
    "sub",
    "sum",
    "swapaxes",
    "swapdims",
    "take_along_dim",
    "tanh",
    "tile",
    "topk",
    "trace",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
    "vdot",
    "view",
    "view_as",
)
