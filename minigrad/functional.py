"""All operations as functions, under NumPy's names and PyTorch's, with PyTorch's keywords or NumPy's.

Signatures are PyTorch's. `axis`, `keepdims`, `ddof` are taken too and mean what they mean in NumPy, where `dim` means
something else: max(x, dim=0) is (values, indices), max(x, axis=0) the values. A call that both libraries take and
answer differently is refused (`minigrad/ambiguous.py`). Nearly every function is a method of Tensor as well.
"""

from minigrad.ops import (
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
from minigrad.ops.activation import (
    celu,
    elu,
    hardtanh,
    leaky_relu,
    logsigmoid,
    relu6,
    selu,
    softplus,
)
from minigrad.ops.attention import (
    causal_self_attention,
    flash_attention,
    scaled_dot_product_attention,
)
from minigrad.ops.comparison import (
    allclose,
    array_equal,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    equal,
    ge,
    gt,
    isclose,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
)
from minigrad.ops.conv import (
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    max_pool1d,
    max_pool2d,
    sliding_windows,
)
from minigrad.ops.cumulative import (
    cumprod,
    cumsum,
    prod,
)
from minigrad.ops.elementwise import (
    clone,
    reciprocal,
    rsqrt,
    square,
)
from minigrad.ops.indexing import (
    diagonal,
    gather,
    getitem,
    index_select,
    masked_fill,
    masked_select,
    take,
    take_along_axis,
    take_along_dim,
    trace,
    tril,
    triu,
)
from minigrad.ops.joining import (
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
from minigrad.ops.linalg import (
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
from minigrad.ops.loss import (
    cross_entropy,
    linear_cross_entropy,
    nll_loss,
    one_hot,
    softmax_cross_entropy,
)
from minigrad.ops.nn import (
    dropout,
    embedding,
    gelu,
    layer_norm,
    layernorm,
    linear,
    log_softmax,
    rms_norm,
    rmsnorm,
    seeded_dropout,
    softmax,
)
from minigrad.ops.pointwise_loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from minigrad.ops.reduce import (
    all,
    amax,
    amin,
    any,
    count_nonzero,
    logsumexp,
    mean,
    norm,
    std,
    sum,
    var,
)
from minigrad.ops.rounding import (
    ceil,
    floor,
    floor_divide,
    remainder,
    rint,
    round,
    sign,
    trunc,
)
from minigrad.ops.shape import (
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
from minigrad.ops.sorting import (
    ValuesAndIndices,
    argmax,
    argmin,
    argsort,
    max,
    median,
    min,
    sort,
    topk,
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

# the other library's name for the same function
absolute, subtract, multiply, divide, true_divide, power, negative = abs, sub, mul, div, div, pow, neg
cat = concat = concatenate
unsqueeze, clamp = expand_dims, clip
movedim = moveaxis
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge
invert, mod = bitwise_not, remainder

__all__ = [
    "ValuesAndIndices",
    "abs", "absolute", "add", "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "argsort", "array_equal",
    "astype", "avg_pool1d", "avg_pool2d",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_not", "bitwise_or",
    "bitwise_xor", "bmm", "broadcast_to",
    "cat", "causal_self_attention", "ceil", "celu", "chunk", "clamp", "clip", "clone", "concat", "concatenate",
    "conv1d", "conv2d", "cos", "count_nonzero", "cross_entropy", "cumprod", "cumsum",
    "diagonal", "div", "divide", "dot", "dropout",
    "einsum", "elu", "embedding", "eq", "equal", "exp", "exp2", "expand", "expand_as", "expand_dims", "expm1",
    "flash_attention", "flatten", "flip", "floor", "floor_divide",
    "gather", "ge", "gelu", "getitem", "greater", "greater_equal", "gt",
    "hardtanh", "hstack", "huber_loss",
    "index_select", "inner", "invert", "isclose", "isfinite", "isinf", "isnan",
    "kl_div",
    "l1_loss", "layer_norm", "layernorm", "le", "leaky_relu", "less", "less_equal", "linear", "linear_cross_entropy",
    "log", "log1p", "log2", "log10", "log_softmax", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logsigmoid", "logsumexp", "lt",
    "masked_fill", "masked_select", "matmul", "max", "max_pool1d", "max_pool2d", "maximum", "mean", "median", "min",
    "minimum", "mm", "mod", "moveaxis", "movedim", "mse_loss", "mul", "multiply", "mv",
    "ne", "neg", "negative", "nll_loss", "norm", "not_equal",
    "one_hot", "outer",
    "pad", "permute", "pow", "power", "prod",
    "ravel", "reciprocal", "relu", "relu6", "remainder", "repeat", "repeat_interleave", "reshape", "reshape_as",
    "rint", "rms_norm", "rmsnorm", "roll", "round", "rsqrt",
    "scaled_dot_product_attention", "seeded_dropout", "selu", "sigmoid", "sign", "silu", "sin", "sliding_windows",
    "smooth_l1_loss", "softmax", "softmax_cross_entropy", "softplus", "sort", "split", "sqrt", "square", "squeeze",
    "stack", "std", "sub", "subtract", "sum", "swapaxes", "swapdims",
    "take", "take_along_axis", "take_along_dim", "tanh", "tile", "topk", "trace", "transpose", "tril", "triu",
    "true_divide", "trunc",
    "unbind", "unflatten", "unsqueeze",
    "var", "vdot", "view", "view_as", "vstack",
    "where",
]  # fmt: skip
