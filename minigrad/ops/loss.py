"""Losses of classes: PyTorch's functions, and the operations of the kernels. Arguments as in `pointwise_loss`."""

import math
from typing import Any

import numpy as np

import kernels
from minigrad import graph
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, TensorLike
from minigrad.ops.checks import check_floats, checked_ids, integers, layer_inputs, tensor_beside
from minigrad.ops.elementwise import add, mul, neg, where
from minigrad.ops.indexing import getitem
from minigrad.ops.nn import linear, log_softmax
from minigrad.ops.pointwise_loss import check_settings, inverse
from minigrad.ops.reduce import sum
from minigrad.ops.shape import permute, reshape


def softmax_cross_entropy(
    logits: TensorLike, targets: TensorLike, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log softmax(logits)[target], averaged or summed over the rows whose target is not ignore_index.

    logits (..., V), targets (...) an integer array, reduction "mean" or "sum" -> (). If no row counts, the
    loss is 0. Raises IndexError for a target outside 0..V-1. targets may be on the host, wherever the logits are.
    """
    logits, _, _ = layer_inputs("cross-entropy", "logits", logits)
    shape = integers(targets).shape
    if shape != logits.shape[:-1]:
        raise ValueError(f"cross-entropy: logits {logits.shape} need targets {logits.shape[:-1]}, not {shape}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f'cross-entropy: reduction is {reduction!r}; expected "mean" or "sum"')
    ids = checked_ids("cross-entropy: target", targets, logits.shape[-1], logits.data, ignore_index)
    loss, logsumexp, divisor = kernels.for_array(logits.data).softmax_cross_entropy_forward(
        logits.data, ids, ignore_index, reduction
    )
    return record(
        loss, (logits,), softmax_cross_entropy_backward,
        logits=logits.data, targets=ids, logsumexp=logsumexp, divisor=divisor, ignore_index=ignore_index,
    )  # fmt: skip


def softmax_cross_entropy_backward(
    dout: Array, logits: Array, targets: Array, logsumexp: Array, divisor: Any, ignore_index: int = -100
) -> Array:
    return kernels.for_array(logits).softmax_cross_entropy_backward(
        dout, logits, targets, logsumexp, divisor, ignore_index, False
    )


def linear_cross_entropy(
    input: TensorLike,
    linear_weight: TensorLike,
    target: TensorLike,
    *,
    linear_bias: TensorLike | None = None,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    options: Any = None,
    grad_scale: float = 1.0,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target), where the logits never exist all at once.

    input (..., K), linear_weight (V, K), target (...) an integer array -> (). Both gradients are formed in forward,
    unless inside no_grad, for an upstream gradient of grad_scale; backward corrects their scale if it gets another one.
    With a bias, weights of classes, smoothing, probabilities, reduction "none", or a linear_weight (V, ..., K) as in
    PyTorch, all logits do exist. options: how PyTorch cuts the batch into chunks; here they have a fixed size, and the
    result is the same.
    """
    x, table, bias = layer_inputs("linear_cross_entropy", "input linear_weight bias", input, linear_weight, linear_bias)
    targets = integers(target)
    check_settings("linear_cross_entropy", reduction)
    if not grad_scale > 0.0:
        raise ValueError(f"linear_cross_entropy: grad_scale is {grad_scale}; expected more than 0")
    if bias is not None or weight is not None or label_smoothing or reduction == "none" or table.ndim != 2 or (
        targets.dtype.kind == "f" or (reduction == "mean" and not (targets != ignore_index).any())
    ):  # fmt: skip
        logits = _logits_of_classes(x, table, bias)
        return cross_entropy(
            logits, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
    return _linear_cross_entropy(x, table, target, ignore_index, reduction, float(grad_scale))


def _logits_of_classes(x: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
    """x (N, K) or (K,), table (V, ..., K), bias (V, ...) -> (N, V, ...) or (V,)."""
    if x.ndim > 2:
        raise ValueError(f"linear_cross_entropy: input {x.shape} has more than two axes, which no argument but "
                         "ignore_index, grad_scale and the reductions mean and sum goes with")  # fmt: skip
    rows = reshape(table, (-1, table.shape[-1]))
    logits = linear(x, rows, bias if bias is None else reshape(bias, -1))
    return reshape(logits, (*x.shape[:-1], *table.shape[:-1]))


def _linear_cross_entropy(
    x: Tensor, weight: Tensor, target: TensorLike, ignore_index: int, reduction: str, grad_scale: float
) -> Tensor:
    shape = integers(target).shape
    if x.shape[-1] != weight.shape[1] or shape != x.shape[:-1]:
        raise ValueError(f"cross-entropy: x {x.shape}, weight {weight.shape} and targets {shape} do not fit")
    targets = checked_ids("cross-entropy: target", target, weight.shape[0], x.data, ignore_index)
    recording = graph.thread.recording and (x.requires_grad or weight.requires_grad)
    output = weight.output() if recording and weight.node is None and weight.requires_grad else None
    loss, dx, dweight = kernels.for_array(x.data).linear_cross_entropy_forward(
        x.data, weight.data, targets, ignore_index, reduction, grad_scale, recording, output
    )
    return record(loss, (x, weight), linear_cross_entropy_backward, dx=dx, dweight=dweight, grad_scale=grad_scale)


@graph.accumulates(1)
def linear_cross_entropy_backward(
    dout: Array, dx: Array, dweight: Array, grad_scale: float, slot: graph.GradSlot = graph.NO_SLOT
) -> tuple[Array, Array]:
    once = slot is not graph.NO_SLOT  # then the arrays that forward made become the gradients
    return kernels.for_array(dx).linear_cross_entropy_backward(dout, dx, dweight, grad_scale, once)


# --------------------------------------------------------------------------------------------- PyTorch's functions


def cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target] over axis 1, the classes, or over the only axis.

    input (N, V, ...) or (V,). target (N, ...) of integers, or probabilities of input's shape. weight (V,): of each
    class. Entries whose target is ignore_index do not count. label_smoothing: this part of each target is spread
    evenly over all classes. The mean over no entry is NaN, as in PyTorch.
    """
    check_settings("cross_entropy", reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}; expected 0 <= label_smoothing <= 1")
    logits = _classes_last("cross_entropy: input", input)  # (..., V)
    if is_probabilities(target):
        if ignore_index >= 0:
            raise ValueError(f"cross_entropy: ignore_index is {ignore_index}; probabilities have no index to ignore")
        probabilities = _classes_last("cross_entropy: target", tensor_beside(target, logits))
        return _of_probabilities(log_softmax(logits, dim=-1), probabilities, weight, reduction, label_smoothing)
    targets = integers(target)
    if weight is None and not label_smoothing and reduction != "none" and logits.dtype != np.float16:
        loss = softmax_cross_entropy(logits, targets, ignore_index, reduction)
        return loss if reduction == "sum" or (targets != ignore_index).any() else mul(loss, math.nan)
    log_probs = log_softmax(logits, dim=-1)
    return _of_indices("cross_entropy", log_probs, targets, weight, ignore_index, reduction, label_smoothing)


def is_probabilities(target: TensorLike) -> bool:
    """Whether the targets are floating-point numbers."""
    return integers(target).dtype.kind == "f"


def nll_loss(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target] over axis 1: `cross_entropy` of log-probabilities."""
    check_settings("nll_loss", reduction, size_average, reduce)
    log_probs = _classes_last("nll_loss: input", input)
    return _of_indices("nll_loss", log_probs, integers(target), weight, ignore_index, reduction, 0.0)


def _classes_last(what: str, input: TensorLike) -> Tensor:
    """(N, V, ...) or (V,) -> (N, ..., V)."""
    x = as_tensor(input)
    check_floats(what.split(":")[0], input=x)
    if x.ndim == 0:
        raise ValueError(f"{what} is a single number, expected shape (N, classes, ...) or (classes,)")
    return x if x.ndim < 3 else permute(x, (0, *range(2, x.ndim), 1))


def _of_indices(
    name: str,
    log_probs: Tensor,
    targets: Array,
    weight: TensorLike | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
) -> Tensor:
    """The loss of log_probs (..., V) and targets (...); PyTorch averages the two parts of smoothing each by itself."""
    V = log_probs.shape[-1]
    if targets.shape != log_probs.shape[:-1]:
        raise ValueError(f"{name}: targets have shape {targets.shape}, expected {log_probs.shape[:-1]}")
    targets = checked_ids(f"{name}: target", targets, V, log_probs.data, ignore_index)
    weight = _class_weight(name, weight, log_probs)
    if weight is not None and weight.requires_grad:
        raise ValueError(f"{name}: with indices of classes, weight has no gradient; say weight.detach()")
    flat, labels = reshape(log_probs, (-1, V)), targets.reshape(-1)
    counted = labels != ignore_index
    labels = np.where(counted, labels, 0)
    rows = np.arange(labels.size, like=labels)
    each = counted.astype(log_probs.dtype) if weight is None else np.where(counted, weight.data[labels], 0)
    losses = where(counted, neg(mul(getitem(flat, (rows, labels)), Tensor(each))), 0.0)
    if smoothing:
        spread = neg(sum(flat if weight is None else mul(flat, weight), axis=-1))
        losses = add(mul(losses, 1.0 - smoothing), mul(where(counted, spread, 0.0), smoothing / V))
    if reduction == "none":
        return reshape(losses, targets.shape)
    total = sum(losses)
    return total if reduction == "sum" else mul(total, inverse(float(each.sum(dtype=np.float64))))


def _of_probabilities(
    log_probs: Tensor, target: Tensor, weight: TensorLike | None, reduction: str, smoothing: float
) -> Tensor:
    """The loss of log_probs (..., V) and probabilities (..., V)."""
    if target.shape != log_probs.shape:
        raise ValueError(f"cross_entropy: probabilities {target.shape} do not have the shape of input")
    weight = _class_weight("cross_entropy", weight, log_probs)
    V = log_probs.shape[-1]
    if smoothing:
        target = add(mul(target, 1.0 - smoothing), smoothing / V)
    losses = mul(log_probs, target)
    losses = neg(sum(losses if weight is None else mul(losses, weight), axis=-1))
    if reduction == "none":
        return losses
    total = sum(losses)
    return total if reduction == "sum" else mul(total, inverse(losses.size))


def _class_weight(name: str, weight: TensorLike | None, log_probs: Tensor) -> Tensor | None:
    if weight is None:
        return None
    weight = tensor_beside(weight, log_probs)
    check_floats(name, input=log_probs, weight=weight)
    if weight.shape != log_probs.shape[-1:]:
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected {log_probs.shape[-1:]}")
    return weight


def one_hot(tensor: TensorLike, num_classes: int = -1) -> Tensor:
    """int64 (..., num_classes): 1 at each class of `tensor` (...), else 0. -1: as many classes as occur."""
    classes = integers(tensor)
    if num_classes == -1:
        if classes.size == 0:
            raise ValueError("one_hot: give num_classes for a tensor without elements")
        num_classes = int(classes.max()) + 1
    classes = checked_ids("one_hot: class", classes, num_classes, classes)
    return Tensor((classes[..., None] == np.arange(num_classes, like=classes)).astype(np.int64))
