"""Losses that compare each entry of input with the entry of target in the same place. PyTorch's functions.

All take `reduction`: "mean", "sum" or "none". Their arguments `size_average` and `reduce` are refused.
"""

import math
import warnings

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, TensorLike
from minigrad.ops.activation import logsigmoid
from minigrad.ops.checks import check_floats, refuse, tensor_beside
from minigrad.ops.elementwise import abs, add, astype, div, exp, floating, log, mul, neg, promoted, sub, where
from minigrad.ops.reduce import mean, sum


def mse_loss(
    input: TensorLike,
    target: TensorLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: TensorLike | None = None,
) -> Tensor:
    """(input - target)**2. weight: a factor of each entry; the mean then divides by its sum."""
    check_settings("mse_loss", reduction, size_average, reduce)
    difference = sub(*_pair("mse_loss", input, target))
    return _weighted("mse_loss", mul(difference, difference), weight, reduction)


def l1_loss(
    input: TensorLike,
    target: TensorLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: TensorLike | None = None,
) -> Tensor:
    """|input - target|. weight as in `mse_loss`."""
    check_settings("l1_loss", reduction, size_average, reduce)
    return _weighted("l1_loss", abs(sub(*_pair("l1_loss", input, target))), weight, reduction)


def huber_loss(
    input: TensorLike,
    target: TensorLike,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: TensorLike | None = None,
) -> Tensor:
    """(input - target)**2 / 2 up to a difference of delta, then a straight line of slope delta. Huber 1964.

    weight: a factor of each entry; the mean divides by the number of entries nevertheless, as in PyTorch.
    """
    check_settings("huber_loss", reduction)
    if not delta > 0.0:
        raise ValueError(f"huber_loss: delta is {delta}; expected more than 0")
    losses = _huber(abs(sub(*_pair("huber_loss", input, target))), float(delta))
    return reduced(losses if weight is None else mul(losses, _weight_of("huber_loss", weight, losses)), reduction)


def smooth_l1_loss(
    input: TensorLike,
    target: TensorLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """`huber_loss` with delta = beta, divided by beta; `l1_loss` for beta = 0. Girshick 2015."""
    check_settings("smooth_l1_loss", reduction, size_average, reduce)
    if not beta >= 0.0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}; expected at least 0")
    distance = abs(sub(*_pair("smooth_l1_loss", input, target)))
    return reduced(mul(_huber(distance, float(beta)), 1.0 / beta) if beta else distance, reduction)


def _huber(distance: Tensor, delta: float) -> Tensor:
    """distance**2 / 2 up to delta, then delta * (distance - delta / 2)."""
    distance = floating(distance)
    # m is a constant of backward: distance m - m**2 / 2 does not change with m where m is distance
    m = Tensor(np.minimum(distance.data, delta))
    return mul(sub(distance, mul(m, 0.5)), m)


def kl_div(
    input: TensorLike,
    target: TensorLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target (log(target) - input): input holds log-probabilities, and target too if log_target.

    reduction "batchmean": the sum divided by the length of the first axis.
    """
    check_settings("kl_div", reduction, size_average, reduce, "batchmean")
    x, y = _pair("kl_div", input, target)
    losses = mul(exp(y), sub(y, x)) if log_target else sub(_x_log_x(y), mul(y, x))
    if reduction != "batchmean":
        return reduced(losses, reduction)
    return mul(sum(losses), inverse(x.shape[0] if x.ndim else 1))


def _x_log_x(x: Tensor) -> Tensor:
    """0 at 0, where its gradient is NaN, as in PyTorch."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return where(x.data == 0, 0.0, mul(x, log(x)))


def binary_cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-target log(input) - (1 - target) log(1 - input), where logarithms are at least -100.

    input, target: probabilities, of one shape; ValueError outside 0..1. weight: a factor of each entry.
    `binary_cross_entropy_with_logits` keeps more digits.
    """
    name = "binary_cross_entropy"
    check_settings(name, reduction, size_average, reduce)
    x, y = _same_shape(name, input, target)
    check_floats(name, input=x, target=y)
    for what, probabilities in (("input", x.data), ("target", y.data)):
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(f"{name}: {what} has entries outside 0..1; expected probabilities")
    dtype, x, y = x.dtype, _wide(x), _wide(y)
    with np.errstate(divide="ignore"):  # log 0, which is limited
        yes, no = np.maximum(np.log(x.data), -100), np.maximum(np.log1p(-x.data), -100)
    losses = record((y.data - 1) * no - y.data * yes, (x, y), binary_cross_entropy_backward, x=x.data, target=y.data)
    return _of_probabilities(name, losses, weight, reduction, dtype)


def binary_cross_entropy_backward(dout: Array, x: Array, target: Array) -> tuple[Array, Array]:
    with np.errstate(divide="ignore"):  # the target's gradient is infinite where x is 0 or 1, as in PyTorch
        return dout * (x - target) / np.maximum(x * (1 - x), 1e-12), dout * (np.log1p(-x) - np.log(x))


def binary_cross_entropy_with_logits(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """-pos_weight target log(sigmoid(input)) - (1 - target) log(1 - sigmoid(input)), exact in both tails.

    target: probabilities, of input's shape. weight: a factor of each entry; pos_weight: of the positive class.
    """
    name = "binary_cross_entropy_with_logits"
    check_settings(name, reduction, size_average, reduce)
    x, y = promoted(*_same_shape(name, input, target))
    dtype, x, y = x.dtype, _wide(x), _wide(y)
    positive = y if pos_weight is None else mul(y, pos_weight)
    if positive.shape != y.shape:
        raise ValueError(f"{name}: pos_weight makes {positive.shape} of {y.shape}; it must broadcast to that shape")
    losses = neg(add(mul(positive, logsigmoid(x)), mul(sub(1.0, y), logsigmoid(neg(x)))))
    return _of_probabilities(name, losses, weight, reduction, dtype)


def _same_shape(name: str, input: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Both as Tensors of floats, whose shapes must be equal."""
    x = as_tensor(input)
    y = tensor_beside(target, x)
    for what, tensor in (("input", x), ("target", y)):
        if tensor.dtype.kind != "f":
            raise TypeError(f"{name}: {what} is {tensor.dtype}, expected floats; convert with .astype(...)")
    if x.shape != y.shape:
        raise ValueError(f"{name}: target has shape {y.shape}, expected that of input, {x.shape}")
    return x, y


def _wide(x: Tensor) -> Tensor:
    """float16 as float32: the factors of a loss would be rounded."""
    return astype(x, np.float32) if x.dtype == np.float16 else x


def _of_probabilities(name: str, losses: Tensor, weight: TensorLike | None, reduction: str, dtype: np.dtype) -> Tensor:
    """The reduction of losses, times weight, which broadcasts, in dtype."""
    if weight is not None:
        shape, losses = losses.shape, mul(losses, weight)
        if losses.shape != shape:
            raise ValueError(f"{name}: weight makes {losses.shape} of {shape}; it must broadcast to that shape")
    return astype(reduced(losses, reduction), dtype)


def _pair(name: str, input: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Both as Tensors. A warning if they differ in shape: (N, 1) and (N,) would make a loss of (N, N)."""
    x = tensor_beside(input, target if hasattr(target, "dtype") else None)
    y = tensor_beside(target, x)
    if x.shape != y.shape:
        shapes = f"{name}: input has shape {x.shape}, target {y.shape}"
        warnings.warn(f"{shapes}: they are broadcast, which is rarely meant", stacklevel=3)
    return x, y


def _weight_of(name: str, weight: TensorLike, losses: Tensor) -> Tensor:
    weight = tensor_beside(weight, losses)
    if weight.shape != losses.shape:
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected that of input, {losses.shape}")
    return weight


def _weighted(name: str, losses: Tensor, weight: TensorLike | None, reduction: str) -> Tensor:
    if weight is None:
        return reduced(losses, reduction)
    weight = _weight_of(name, weight, losses)
    weighted = mul(losses, weight)
    return div(sum(weighted), sum(weight)) if reduction == "mean" else reduced(weighted, reduction)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Their mean or sum, or as they are for "none"."""
    return losses if reduction == "none" else sum(losses) if reduction == "sum" else mean(losses)


def check_settings(
    name: str, reduction: str, size_average: bool | None = None, reduce: bool | None = None, *more: str
) -> None:
    """ValueError for an unknown reduction, TypeError for PyTorch's older arguments. more: further reductions."""
    refuse(name, size_average=size_average is not None, reduce=reduce is not None)
    known = ("mean", "sum", "none", *more)
    if reduction not in known:
        raise ValueError(f"{name}: reduction is {reduction!r}; expected one of {', '.join(map(repr, known))}")


def inverse(n: float) -> float:
    """1 / n, NaN for 0: the factor of a mean."""
    return 1.0 / n if n else math.nan
