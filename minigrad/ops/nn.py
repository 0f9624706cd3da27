"""Layers of neural networks. The fused ones do their arithmetic in `kernels`."""

import math

import numpy as np

import kernels
from kernels import matmul_precision
from kernels.arrays import accurate_sum, is_array
from minigrad import graph, random
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import DType, Ints, TensorLike
from minigrad.ops.elementwise import astype, mul
from minigrad.ops.shape import reshape

LARGE_TABLE = 4096  # rows from which on the few that a batch names are added alone
_KERNEL_DTYPES = {np.dtype(np.float32), np.dtype(np.float64)}  # of which there are kernels on the CPU


def softmax(input: TensorLike, dim: int | None = None, dtype: DType = None, *, axis: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, which NumPy calls `axis`. dtype: the input is converted to it first."""
    x, along, narrow = _softmax_input("softmax", input, dim, axis, dtype)
    weights = np.exp(x.data - _highest(x.data, along))
    out = weights / accurate_sum(weights, along, keepdims=True)
    return astype(record(out, (x,), softmax_backward, out=out, axis=along), narrow)


def softmax_backward(dout, out, axis):
    return out * (dout - accurate_sum(dout * out, axis, keepdims=True))


def log_softmax(input: TensorLike, dim: int | None = None, dtype: DType = None, *, axis: int | None = None) -> Tensor:
    """log(softmax(x)), without forming softmax(x) first. Arguments as of `softmax`."""
    x, along, narrow = _softmax_input("log_softmax", input, dim, axis, dtype)
    shifted = x.data - _highest(x.data, along)
    out = shifted - np.log(accurate_sum(np.exp(shifted), along, keepdims=True))
    return astype(record(out, (x,), log_softmax_backward, out=out, axis=along), narrow)


def log_softmax_backward(dout, out, axis):
    return dout - np.exp(out) * accurate_sum(dout, axis, keepdims=True)


def _highest(x, axis):
    return x.max(axis=axis, keepdims=True) if x.size else x.sum(axis=axis, keepdims=True)


def _softmax_input(name, x, dim, axis, dtype):
    """x in the dtype that is computed in, the axis, and the dtype of the result."""
    if (dim is None) == (axis is None):
        raise TypeError(f"{name}: give the axis as dim= or axis=" + ("" if dim is None else ", not both"))
    x = as_tensor(x) if dtype is None else astype(as_tensor(x), dtype)
    check_floats(name, input=x)
    wide = np.float32 if x.dtype == np.float16 and _on_cpu(x) else x.dtype  # sums in float16 would lose digits
    return astype(x, wide), axis if dim is None else dim, x.dtype


def linear(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """input @ weight.T + bias. input (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    x, weight, bias = layer_inputs("linear", input=input, weight=weight, bias=bias)
    if weight.ndim != 2:
        raise ValueError(f"linear: weight has shape {weight.shape}, expected (out_features, in_features)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        features = x.shape[-1] if x.ndim else "no"
        raise ValueError(f"linear: x has {features} features, weight {weight.shape} takes {weight.shape[1]}")
    _check_vector("linear: bias", bias, weight.shape[0])
    out = kernels.for_array(x.data).linear_forward(x.data, weight.data, None if bias is None else bias.data)
    return record(
        out, (x, weight) if bias is None else (x, weight, bias), linear_backward,
        x=_recompute_or_data(x) if weight.requires_grad else None,  # each is saved only for the other's gradient
        weight=weight.data if x.requires_grad else None,
        has_bias=bias is not None,
    )  # fmt: skip


@graph.accumulates(1)
def linear_backward(dout, x, weight, has_bias, slot=graph.NO_SLOT):
    needs_dbias = has_bias or None  # the kernel asks of its argument `bias` only whether it is None
    grads = kernels.for_array(dout).linear_backward(dout, x, weight, needs_dbias, slot.output())  # dx, dweight, dbias
    return grads if has_bias else grads[:2]


def layernorm(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise the last axis. x (..., C), weight (C,), bias (C,) or None -> (..., C). Ba et al. 2016."""
    x, weight, bias = layer_inputs("layernorm", x=x, weight=weight, bias=bias)
    _check_vector("layernorm: weight", weight, x.shape[-1])
    _check_vector("layernorm: bias", bias, x.shape[-1])
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
def layernorm_backward(dout, x, weight, mean, rstd, has_bias=True, slot=graph.NO_SLOT):
    dresidual = slot.take()  # of the residual connection past the norm
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
    x, weight, bias = layer_inputs("layer_norm", input=input, weight=weight, bias=bias)
    rows, weight, bias = _last_axes_as_one("layer_norm", x, normalized_shape, weight, bias)
    return reshape(layernorm(rows, weight, bias, eps), x.shape)


def rms_norm(
    input: TensorLike, normalized_shape: Ints, weight: TensorLike | None = None, eps: float | None = None
) -> Tensor:
    """`rmsnorm` of the last axes, whose sizes are normalized_shape, an int or a tuple; weight has this shape, or is
    None. PyTorch's function."""
    x, weight = layer_inputs("rms_norm", input=input, weight=weight)
    rows, weight = _last_axes_as_one("rms_norm", x, normalized_shape, weight)
    return reshape(rmsnorm(rows, weight, eps), x.shape)


def _last_axes_as_one(name, x, normalized_shape, weight, *bias):
    """x (..., C), weight (C,) and bias (C,) or None, where C = prod(normalized_shape)."""
    shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: input {x.shape} does not end in normalized_shape {shape}")
    for what, vector in zip(("weight", "bias"), (weight, *bias), strict=False):
        if vector is not None and vector.shape != shape:
            raise ValueError(f"{name}: {what} has shape {vector.shape}, expected {shape}")
    C = math.prod(shape)
    weight = Tensor(np.zeros(C, x.dtype, like=x.data) + 1.0) if weight is None else reshape(weight, C)
    rows = reshape(x, (*x.shape[: -len(shape)], C))
    return rows, weight, *(vector if vector is None else reshape(vector, C) for vector in bias)


def rmsnorm(x: TensorLike, weight: TensorLike, eps: float | None = None) -> Tensor:
    """Divide the last axis by its root mean square. x (..., C), weight (C,) -> (..., C). Zhang & Sennrich 2019.

    eps: added to the mean of squares; None: the rounding unit of x's dtype, as in PyTorch.
    """
    x, weight = layer_inputs("rmsnorm", x=x, weight=weight)
    _check_vector("rmsnorm: weight", weight, x.shape[-1])
    eps = float(np.finfo(x.dtype).eps if eps is None else eps)
    out, rstd = kernels.for_array(x.data).rmsnorm_forward(x.data, weight.data, eps)
    return record(out, (x, weight), rmsnorm_backward, x=x.data, weight=weight.data, rstd=rstd)


def rmsnorm_backward(dout, x, weight, rstd):
    return kernels.for_array(dout).rmsnorm_backward(dout, x, weight, rstd)  # dx, dweight


def gelu(input: TensorLike, approximate: str = "none") -> Tensor:
    """x * Phi(x); approximate="tanh" is GPT-2's form. Hendrycks & Gimpel 2016."""
    x = as_tensor(input)
    x = astype(x, np.float32) if x.dtype.kind in "biu" else x
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is {approximate!r}; expected "none" or "tanh"')
    if x.dtype == np.float16 and _on_cpu(x):  # there is no kernel
        return astype(gelu(astype(x, np.float32), approximate), np.float16)
    kernel, kept = kernels.for_array(x.data).gelu_forward, saved_array(x.data)
    is_new = {"x_is_new": True} if kept is not x.data else {}  # computed for backward alone, which may overwrite it
    out = record(kernel(x.data, approximate), (x,), gelu_backward, x=kept, approximate=approximate, **is_new)
    if out.node:
        out.recompute = graph.Recompute(kernel, kept, approximate)
    return out


def gelu_backward(dout, x, approximate, x_is_new=False):
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
    (weight,) = layer_inputs("embedding", weight=weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight has shape {weight.shape}, expected (num_embeddings, embedding_dim)")
    V = weight.shape[0]
    ids = checked_ids("embedding: id", input, V, weight.data)
    padding = {} if padding_idx is None else {"padding_idx": _position("embedding: padding_idx", padding_idx, V)}
    out = kernels.for_array(weight.data).embedding_forward(weight.data, ids)
    return record(out, (weight,), embedding_backward, ids=ids, num_embeddings=V, **padding)


@graph.accumulates(0)
def embedding_backward(dout, ids, num_embeddings, padding_idx=None, slot=graph.NO_SLOT):
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
        return mul(input, 0.0)
    return seeded_dropout(input, p, *random.next_stream())


def seeded_dropout(x: TensorLike, p: float, seed: int, step: int, stream: int) -> Tensor:
    """Zero elements with probability p and divide the rest by 1 - p.

    The mask is a function of (seed, step, stream) and the element's index (Philox4x32-10), so the same
    arguments give the same result, and backward draws the mask again instead of keeping it.
    """
    (x,) = layer_inputs("dropout", input=x)
    p = float(p)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p}; expected 0 <= p < 1")
    out = kernels.for_array(x.data).dropout_forward(x.data, p, seed, step, stream)
    return record(out, (x,), seeded_dropout_backward, p=p, seed=seed, step=step, stream=stream)


def seeded_dropout_backward(dout, p, seed, step, stream):
    return kernels.for_array(dout).dropout_backward(dout, p, seed, step, stream)


def saved_array(array):
    """What is saved of an array: a bfloat16 copy where products round to that anyway, else the array itself.

    Of what a model keeps for backward, most comes out of products and goes into others.
    """
    if not graph.thread.recording or not matmul_precision.rounds(array.dtype):
        return array
    from kernels.cast.cpu import from_bfloat16_bits, to_bfloat16_bits  # here: the reference kernels import no compiler

    return graph.Recompute(from_bfloat16_bits, to_bfloat16_bits(array))


def _recompute_or_data(x):
    """What to save of x: its Recompute, if it has one that gives x still, else the array."""
    return x.data if x.recompute is None or graph.may_be_stale(x.node) else x.recompute


def _check_vector(what, vector, n):
    """Kernels rely on it: a shorter vector would have them read foreign memory."""
    if vector is not None and vector.shape != (n,):
        raise ValueError(f"{what} has shape {vector.shape}, expected {(n,)}")


def _position(what, i, n):
    """0..n-1 of an index that may be negative."""
    if not -n <= i < n:
        raise ValueError(f"{what} is {i}, expected {-n} <= {what.split()[-1]} < {n}")
    return int(i) % n


def _on_cpu(x):
    return type(x.data) is np.ndarray


def layer_inputs(layer, **inputs):
    """The inputs as Tensors, None staying None; TypeError unless they have one dtype, of which there are kernels."""
    given, dtype = inputs.values(), None
    for x in given:  # nearly always nothing is to be done
        if x is None:
            continue
        if not isinstance(x, Tensor):
            break
        if dtype is None:
            dtype = x.data.dtype
            if dtype not in _KERNEL_DTYPES:
                break
        elif x.data.dtype is not dtype:
            break
    else:
        return given
    like = next((x for x in inputs.values() if hasattr(x, "dtype")), None)
    tensors = {name: x if x is None else tensor_beside(x, like) for name, x in inputs.items()}
    check_floats(layer, **tensors)
    first = next(iter(tensors.values()))
    if first.dtype not in _KERNEL_DTYPES and _on_cpu(first):
        raise TypeError(f"{layer}: no kernels for {first.dtype} on the CPU; convert with .astype(np.float32)")
    return tensors.values()


def tensor_beside(value, like):
    """`value` as a Tensor; what is no array yet, a list for instance, gets the dtype of the Tensor or array `like`."""
    if isinstance(value, Tensor) or like is None or is_array(value):
        return as_tensor(value)
    return Tensor(np.asarray(value, dtype=like.dtype, like=like.data if isinstance(like, Tensor) else like))


def check_floats(layer, **tensors):
    """TypeError, in one line, unless all are of one dtype, a floating-point one."""
    (one, first), *others = tensors.items()
    if first.dtype.kind in "biuc":
        raise TypeError(f"{layer}: {one} is {first.dtype}, expected floating-point numbers; convert with .astype(...)")
    for name, x in others:
        if x is not None and x.dtype != first.dtype:
            raise TypeError(f"{layer}: {one} is {first.dtype}, {name} {x.dtype}; convert either with .astype(...)")


def refuse(function, **given):
    """TypeError for the first argument that is given and that minigrad has no equivalent of."""
    for name, is_given in given.items():
        if is_given:
            raise TypeError(f"{function}: the argument {name} is not supported")


def integers(ids):
    ids = ids.data if hasattr(ids, "node") else ids
    return ids if is_array(ids) else np.asarray(ids)


def checked_ids(what, ids, n, like, ignore_index=None):
    """A checked copy of the ids, int64, where the array `like` is. IndexError if one is outside 0..n-1.

    Kernels rely on the check: an index out of range would read or write foreign memory. The copy is private to the
    operation, since backward reads it once more, when the caller may have put the next batch into its own array.
    """
    ids = integers(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what}s must be integers, not {ids.dtype}")
    ids = np.array(ids) if isinstance(ids, np.ndarray) else ids.copy()  # first: what is checked cannot change
    bad = (ids < 0) | (ids >= n)
    if ignore_index is not None:
        bad &= ids != ignore_index
    if bad.any():
        raise IndexError(f"{what} {ids[bad][0]} is outside 0..{n - 1}")
    return np.asarray(ids.astype(np.int64, copy=False), like=like)
