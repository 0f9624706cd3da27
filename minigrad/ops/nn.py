"""Layers of neural networks. The fused ones do their arithmetic in `kernels`."""

import math

import numpy as np

import kernels
from kernels import matmul_precision
from kernels.arrays import accurate_sum
from minigrad import graph, random
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, DType, Ints, Shape, TensorLike
from minigrad.ops.checks import (
    check_floats,
    check_rows,
    check_vector,
    checked_ids,
    layer_inputs,
    on_cpu,
    position,
    refuse,
    whole,
)
from minigrad.ops.elementwise import add, astype, mul
from minigrad.ops.linalg import matmul
from minigrad.ops.shape import reshape, transpose

LARGE_TABLE = 4096  # rows from which on the few that a batch names are added alone


def softmax(input: TensorLike, dim: int | None = None, dtype: DType = None, *, axis: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, which NumPy calls `axis`. dtype: the input is converted to it first."""
    x, along, narrow = _softmax_input("softmax", input, dim, axis, dtype)
    weights = np.exp(x.data - _highest(x.data, along))
    out = weights / accurate_sum(weights, along, keepdims=True)
    return astype(record(out, (x,), softmax_backward, out=out, axis=along), narrow)


def softmax_backward(dout: Array, out: Array, axis: int) -> Array:
    return out * (dout - accurate_sum(dout * out, axis, keepdims=True))


def log_softmax(input: TensorLike, dim: int | None = None, dtype: DType = None, *, axis: int | None = None) -> Tensor:
    """log(softmax(x)), without forming softmax(x) first. Arguments as of `softmax`."""
    x, along, narrow = _softmax_input("log_softmax", input, dim, axis, dtype)
    shifted = x.data - _highest(x.data, along)
    out = shifted - np.log(accurate_sum(np.exp(shifted), along, keepdims=True))
    return astype(record(out, (x,), log_softmax_backward, out=out, axis=along), narrow)


def log_softmax_backward(dout: Array, out: Array, axis: int) -> Array:
    return dout - np.exp(out) * accurate_sum(dout, axis, keepdims=True)


def _highest(x: Array, axis: int) -> Array:
    return x.max(axis=axis, keepdims=True) if x.size else x.sum(axis=axis, keepdims=True)


def _softmax_input(
    name: str, input: TensorLike, dim: int | None, axis: int | None, dtype: DType
) -> tuple[Tensor, int, np.dtype]:
    """The input in the dtype that is computed in, the axis, and the dtype of the result."""
    along = axis if dim is None else dim
    if along is None or None not in (dim, axis):
        raise TypeError(f"{name}: give the axis as dim= or axis=" + ("" if along is None else ", not both"))
    x = as_tensor(input) if dtype is None else astype(input, dtype)
    check_floats(name, input=x)
    wide = np.dtype(np.float32) if x.dtype == np.float16 and on_cpu(x) else x.dtype  # sums in float16 lose digits
    return astype(x, wide), whole(f"{name}: dim", along), x.dtype


def linear(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """input @ weight.T + bias. input (..., K), weight (C, K), bias (C,) or None -> (..., C).

    weight (K,) and bias () -> (...).
    """
    x, weight, bias = layer_inputs("linear", "input weight bias", input, weight, bias)
    if weight.ndim not in (1, 2):
        raise ValueError(f"linear: weight has shape {weight.shape}, expected (out_features, in_features)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[-1]:
        features = x.shape[-1] if x.ndim else "no"
        raise ValueError(f"linear: x has {features} features, weight {weight.shape} takes {weight.shape[-1]}")
    check_vector("linear: bias", bias, *weight.shape[:-1])
    if weight.ndim == 1 or 0 in weight.shape:  # the kernels have no such case
        out = matmul(x, transpose(weight))
        return out if bias is None else add(out, bias)
    out = kernels.for_array(x.data).linear_forward(x.data, weight.data, None if bias is None else bias.data)
    return record(
        out, (x, weight) if bias is None else (x, weight, bias), linear_backward,
        x=_recompute_or_data(x) if weight.requires_grad else None,  # each is saved only for the other's gradient
        weight=weight.data if x.requires_grad else None,
        has_bias=bias is not None,
    )  # fmt: skip


@graph.accumulates(1)
def linear_backward(
    dout: Array, x: Array | None, weight: Array | None, has_bias: bool, slot: graph.GradSlot = graph.NO_SLOT
) -> tuple[Array | None, ...]:
    needs_dbias = has_bias or None  # the kernel asks of its argument `bias` only whether it is None
    grads = kernels.for_array(dout).linear_backward(dout, x, weight, needs_dbias, slot.output())  # dx, dweight, dbias
    return grads if has_bias else grads[:2]


def layernorm(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise the last axis. x (..., C), weight (C,), bias (C,) or None -> (..., C). Ba et al. 2016."""
    x, weight, bias = layer_inputs("layernorm", "x weight bias", x, weight, bias)
    check_rows("layernorm", x, weight=weight, bias=bias)
    if x.shape[-1] == 0:  # the kernels have no such case
        return mul(x, weight)
    kernel, kept = kernels.for_array(x.data).layernorm_forward, saved_array(x.data)
    scale_and_shift = weight.data, None if bias is None else bias.data
    eps = float(eps)  # a float64 scalar of NumPy would widen float32
    normalised, mean, rstd = kernel(x.data, *scale_and_shift, eps)
    out = record(
        normalised, (x, weight) if bias is None else (x, weight, bias), layernorm_backward,
        x=kept, weight=weight.data, mean=mean, rstd=rstd, has_bias=bias is not None,
    )  # fmt: skip
    if out.node:
        out.recompute = graph.Recompute(lambda *args: kernel(*args)[0], kept, *scale_and_shift, eps)
    return out


@graph.accumulates(0)
def layernorm_backward(
    dout: Array,
    x: Array,
    weight: Array,
    mean: Array,
    rstd: Array,
    has_bias: bool = True,
    slot: graph.GradSlot = graph.NO_SLOT,
) -> tuple[Array, ...]:
    dresidual = slot.take_sum()  # of the residual connection past the norm
    dx, dweight, dbias = kernels.for_array(dout).layernorm_backward(dout, x, weight, mean, rstd, dresidual)
    return (dx, dweight, dbias) if has_bias else (dx, dweight)


def layer_norm(
    input: TensorLike,
    normalized_shape: Ints,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`layernorm` of the last axes, whose sizes are normalized_shape, an int or a tuple; weight and bias have this
    shape, or are None. PyTorch's function."""
    x, weight, bias = layer_inputs("layer_norm", "input weight bias", input, weight, bias)
    shape = _last_axes("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    weight = _ones(shape, x) if weight is None else weight
    if len(shape) == 1:
        return layernorm(x, weight, bias, eps)
    rows = reshape(x, (*x.shape[: -len(shape)], math.prod(shape)))
    bias = bias if bias is None else reshape(bias, -1)
    return reshape(layernorm(rows, reshape(weight, -1), bias, eps), x.shape)


def rms_norm(
    input: TensorLike, normalized_shape: Ints, weight: TensorLike | None = None, eps: float | None = None
) -> Tensor:
    """`rmsnorm` of the last axes, whose sizes are normalized_shape, an int or a tuple; weight has this shape, or is
    None. PyTorch's function."""
    x, weight, _ = layer_inputs("rms_norm", "input weight", input, weight)
    shape = _last_axes("rms_norm", x, normalized_shape, weight=weight)
    weight = _ones(shape, x) if weight is None else weight
    if len(shape) == 1:
        return rmsnorm(x, weight, eps)
    rows = reshape(x, (*x.shape[: -len(shape)], math.prod(shape)))
    return reshape(rmsnorm(rows, reshape(weight, -1), eps), x.shape)


def _last_axes(name: str, x: Tensor, normalized_shape: Ints, **vectors: Tensor | None) -> Shape:
    """normalized_shape as a tuple: the sizes of x's last axes, and the shape of weight and bias."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: input {x.shape} does not end in normalized_shape {shape}")
    for what, vector in vectors.items():
        if vector is not None and vector.shape != shape:
            raise ValueError(f"{name}: {what} has shape {vector.shape}, expected {shape}")
    return shape


def _ones(shape: Shape, like: Tensor) -> Tensor:
    return Tensor(np.zeros(shape, like.dtype, like=like.data) + 1.0)


def rmsnorm(x: TensorLike, weight: TensorLike, eps: float | None = None) -> Tensor:
    """Divide the last axis by its root mean square. x (..., C), weight (C,) -> (..., C). Zhang & Sennrich 2019.

    eps: added to the mean of squares; None: the rounding unit of x's dtype, as in PyTorch.
    """
    x, weight, _ = layer_inputs("rmsnorm", "x weight", x, weight)
    check_rows("rmsnorm", x, weight=weight)
    if x.shape[-1] == 0:
        return mul(x, weight)
    eps = float(np.finfo(x.dtype).eps if eps is None else eps)
    out, rstd = kernels.for_array(x.data).rmsnorm_forward(x.data, weight.data, eps)
    return record(out, (x, weight), rmsnorm_backward, x=x.data, weight=weight.data, rstd=rstd)


def rmsnorm_backward(dout: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    return kernels.for_array(dout).rmsnorm_backward(dout, x, weight, rstd)  # dx, dweight


def gelu(input: TensorLike, approximate: str = "none") -> Tensor:
    """x * Phi(x); approximate="tanh" is GPT-2's form. Hendrycks & Gimpel 2016."""
    x = as_tensor(input)
    x = astype(x, np.float32) if x.dtype.kind in "biu" else x
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is {approximate!r}; expected "none" or "tanh"')
    if x.dtype == np.float16 and on_cpu(x):  # there is no kernel
        return astype(gelu(astype(x, np.float32), approximate), np.float16)
    kernel, kept = kernels.for_array(x.data).gelu_forward, saved_array(x.data)
    is_new = {"x_is_new": True} if kept is not x.data else {}  # computed for backward alone, which may overwrite it
    out = record(kernel(x.data, approximate), (x,), gelu_backward, x=kept, approximate=approximate, **is_new)
    if out.node:
        out.recompute = graph.Recompute(kernel, kept, approximate)
    return out


def gelu_backward(dout: Array, x: Array, approximate: str, x_is_new: bool = False) -> Array:
    return kernels.for_array(dout).gelu_backward(dout, x, approximate, x_is_new)


def embedding(
    input: TensorLike,
    weight: TensorLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table. input: ids (...), an integer array; weight (V, C) -> (..., C). IndexError outside 0..V-1.

    The ids may be on the host, wherever the weight is: there they are checked without waiting for a device.
    padding_idx: the id whose row gets no gradient. max_norm, scale_grad_by_freq and sparse are refused.
    """
    refuse("embedding", max_norm=max_norm is not None, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    weight, _, _ = layer_inputs("embedding", "weight", weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight has shape {weight.shape}, expected (num_embeddings, embedding_dim)")
    V = weight.shape[0]
    ids = checked_ids("embedding: id", input, V, weight.data)
    padding = {} if padding_idx is None else {"padding_idx": position("embedding: padding_idx", padding_idx, V)}
    out = kernels.for_array(weight.data).embedding_forward(weight.data, ids)
    return record(out, (weight,), embedding_backward, ids=ids, num_embeddings=V, **padding)


@graph.accumulates(0)
def embedding_backward(
    dout: Array,
    ids: Array,
    num_embeddings: int,
    padding_idx: int | None = None,
    slot: graph.GradSlot = graph.NO_SLOT,
) -> Array:
    if padding_idx is not None:
        dout = np.where((ids == padding_idx)[..., None], np.zeros((), dout.dtype, like=dout), dout)
    in_place = slot.grad is None or num_embeddings >= LARGE_TABLE  # else the engine adds a whole gradient as quickly
    buffer = slot.sum_buffer() if in_place else None
    return kernels.for_array(dout).embedding_backward(dout, ids, num_embeddings, buffer)


def dropout(input: TensorLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`seeded_dropout` with the next stream of `minigrad.random`; the input itself unless `training`."""
    refuse("dropout", inplace=inplace)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p is {p}; expected 0 <= p <= 1")
    if not training or p == 0.0:
        return as_tensor(input)
    if p == 1.0:
        return mul(input, 0)
    return seeded_dropout(input, p, *random.next_stream())


def seeded_dropout(x: TensorLike, p: float, seed: int, step: int, stream: int) -> Tensor:
    """Zero elements with probability p and divide the rest by 1 - p.

    The mask is a function of (seed, step, stream) and the element's index (Philox4x32-10), so the same
    arguments give the same result, and backward draws the mask again instead of keeping it.
    """
    x, _, _ = layer_inputs("dropout", "input", x)
    p = float(p)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p}; expected 0 <= p < 1")
    out = kernels.for_array(x.data).dropout_forward(x.data, p, seed, step, stream)
    return record(out, (x,), seeded_dropout_backward, p=p, seed=seed, step=step, stream=stream)


def seeded_dropout_backward(dout: Array, p: float, seed: int, step: int, stream: int) -> Array:
    return kernels.for_array(dout).dropout_backward(dout, p, seed, step, stream)


def saved_array(array: Array) -> Array | graph.Recompute:
    """What is saved of an array: a bfloat16 copy where products round to that anyway, else the array itself.

    Of what a model keeps for backward, most comes out of products and goes into others.
    """
    if not graph.thread.recording or not matmul_precision.rounds(array.dtype):
        return array
    from kernels.cast.cpu import from_bfloat16_bits, to_bfloat16_bits  # here: the reference kernels import no compiler

    return graph.Recompute(from_bfloat16_bits, to_bfloat16_bits(array))


def _recompute_or_data(x: Tensor) -> Array | graph.Recompute:
    """What to save of x: its Recompute, if it has one that gives x still, else the array."""
    if x.recompute is None or x.node is None or graph.may_be_stale(x.node):
        return x.data
    return x.recompute
