"""The operators that PyTorch's table of samples and minigrad have in common, by name.

The samples are `torch.testing._internal.common_methods_invocations.op_db`. This list names every operator of that table
whose name minigrad has: test_opinfo.py finds a name that is missing here. A name that is taken out counts as a failure.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operator:
    """path: its name in minigrad, where it is not PyTorch's. call(mg, input, *args, **kwargs): a sample's call in
    minigrad, where PyTorch's table wraps the function. elementwise: works on float16. random: draws random numbers.
    order: its indices say where elements stand in order, of which equal ones have none.
    """

    path: str = ""
    call: Any = None
    elementwise: bool = False
    random: bool = False
    order: bool = False


def _elementwise(*names):
    return {name: Operator(elementwise=True) for name in names}


def _plain(*names):
    return {name: Operator() for name in names}


def _method(name):
    return Operator(call=lambda mg, x, *args, **kwargs: getattr(x, name)(*args, **kwargs), elementwise=True)


def _operator(function):
    """An operator of Python: the sample's input comes second for those that begin with __r."""
    return Operator(call=function, elementwise=True)


#: name in op_db -> how minigrad is called
OPERATORS = {
    **_elementwise(
        "abs", "add", "ceil", "clamp", "cos", "div", "exp", "exp2", "expm1", "floor", "isclose", "isfinite", "isinf",
        "isnan", "log", "log10", "log1p", "log2", "logical_and", "logical_not", "logical_or", "logical_xor",
        "masked_fill", "maximum", "minimum", "mul", "neg", "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign",
        "sin", "sqrt", "square", "sub", "tanh", "true_divide", "trunc",
        "nn.functional.celu", "nn.functional.elu", "nn.functional.gelu", "nn.functional.hardtanh",
        "nn.functional.leaky_relu", "nn.functional.logsigmoid", "nn.functional.relu", "nn.functional.relu6",
        "nn.functional.selu", "nn.functional.silu", "nn.functional.softplus",
    ),
    "where": Operator(call=lambda mg, x, condition, other: mg.where(condition, x, other), elementwise=True),
    # Python's operators
    "__radd__": _operator(lambda mg, x, y: y + x),
    "__rand__": _operator(lambda mg, x, y: y & x),
    "__rdiv__": _operator(lambda mg, x, y: y / x),
    "__rmatmul__": Operator(call=lambda mg, x, y: y @ x),
    "__rmod__": _operator(lambda mg, x, y: y % x),
    "__rmul__": _operator(lambda mg, x, y: y * x),
    "__ror__": _operator(lambda mg, x, y: y | x),
    "__rpow__": _operator(lambda mg, x, y: y**x),
    "__rsub__": _operator(lambda mg, x, y: y - x),
    "__rxor__": _operator(lambda mg, x, y: y ^ x),
    "__getitem__": Operator(call=lambda mg, x, index: x[index]),
    "bitwise_and": _operator(lambda mg, x, y: x & y),
    "bitwise_not": _operator(lambda mg, x: ~x),
    "bitwise_or": _operator(lambda mg, x, y: x | y),
    "bitwise_xor": _operator(lambda mg, x, y: x ^ y),
    "eq": _operator(lambda mg, x, y: x == y),
    "floor_divide": _operator(lambda mg, x, y: x // y),
    "ge": _operator(lambda mg, x, y: x >= y),
    "gt": _operator(lambda mg, x, y: x > y),
    "le": _operator(lambda mg, x, y: x <= y),
    "lt": _operator(lambda mg, x, y: x < y),
    "ne": _operator(lambda mg, x, y: x != y),
    "remainder": _operator(lambda mg, x, y: x % y),
    # reductions
    **_plain(
        "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "logsumexp", "max", "mean",
        "min", "norm", "prod", "std", "sum", "trace", "var",
    ),
    # shapes, order, indices
    **_plain(
        "broadcast_to", "cat", "chunk", "clone", "cumprod", "cumsum", "diagonal", "flatten", "flip", "gather", "hstack",
        "index_select", "masked_select", "permute", "ravel", "repeat_interleave", "reshape", "roll", "split",
        "squeeze", "stack", "take", "take_along_dim", "tile", "transpose", "tril", "triu", "unbind", "unflatten",
        "unsqueeze", "vstack", "nn.functional.one_hot", "nn.functional.pad",
    ),
    **{name: Operator(order=True) for name in ("argsort", "median", "sort", "topk")},
    "T": Operator(call=lambda mg, x: x.T),
    "mT": Operator(call=lambda mg, x: x.mT),
    "t": Operator(call=lambda mg, x: x.t()),
    # dtypes
    **{name: _method(name) for name in ("bool", "double", "float", "half", "int", "long")},
    "equal": _method("equal"),
    "contiguous": Operator(call=lambda mg, x, **keywords: x.contiguous(**keywords)),
    "expand_as": Operator(call=lambda mg, x, other: x.expand_as(other)),
    "reshape_as": Operator(call=lambda mg, x, other: x.reshape_as(other)),
    "view_as": Operator(call=lambda mg, x, other: x.view_as(other)),
    "expand": Operator(call=lambda mg, x, shape: x.expand(shape)),
    "item": Operator(call=lambda mg, x: x.item()),
    "movedim": Operator("moveaxis"),
    "repeat": Operator(call=lambda mg, x, sizes: x.repeat(sizes)),
    "view": Operator(call=lambda mg, x, shape: x.view(shape)),
    # tensors from numbers
    **_plain("arange", "eye", "full", "ones", "zeros"),
    "randn": Operator(random=True),
    # products
    **_plain("bmm", "dot", "inner", "matmul", "mm", "mv", "outer", "vdot"),
    "einsum": Operator(call=lambda mg, tensors, equation: mg.einsum(equation, tensors)),
    # neural networks
    **_plain(
        "log_softmax", "softmax", "nn.functional.avg_pool1d", "nn.functional.avg_pool2d",
        "nn.functional.binary_cross_entropy", "nn.functional.binary_cross_entropy_with_logits",
        "nn.functional.conv1d", "nn.functional.conv2d", "nn.functional.huber_loss",
        "nn.functional.cross_entropy", "nn.functional.kl_div", "nn.functional.l1_loss", "nn.functional.layer_norm",
        "nn.functional.linear", "nn.functional.linear_cross_entropy", "nn.functional.max_pool1d",
        "nn.functional.max_pool2d", "nn.functional.mse_loss", "nn.functional.nll_loss", "nn.functional.rms_norm",
        "nn.functional.smooth_l1_loss",
    ),
    "nn.functional.dropout": Operator(random=True),
    "nn.functional.embedding": Operator(call=lambda mg, weight, ids, **kw: mg.embedding(ids, weight, **kw)),
    "nn.functional.scaled_dot_product_attention": Operator(random=True),
}  # fmt: skip

#: names that minigrad and PyTorch's table have for different things
NOT_COMMON = {
    "to": "its samples name devices",
}
