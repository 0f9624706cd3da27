"""Running sums and products along an axis, `cumsum` and `cumprod`, and the product of all elements, `prod`.

Signatures, integers and float16 are as in `reduce.py`. A long chain of additions or multiplications of float32 would
lose digits, so they run in float64, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np

from kernels.arrays import as_array
from minigrad._tensor import Tensor, record
from minigrad.argument_types import Array, Axes, Axis, AxisKeepdims, DType, Shape, TensorLike
from minigrad.keywords import numpy_keywords, reduction
from minigrad.ops.checks import as_flag
from minigrad.ops.reduce import _count, _input, _normalised, _restored, _wide
from minigrad.ops.shape import reshape


@reduction
def prod(
    input: TensorLike, dim: Axes = None, keepdim: bool = False, *, dtype: DType = None, **numpy: Unpack[AxisKeepdims]
) -> Tensor:
    """Product over `dim`; dtype: the input is converted to it first. Integers and booleans give int64."""
    x = input = _input(input, dtype)
    axis = _normalised(dim, x.ndim)
    if x.dtype.kind in "bui":
        return Tensor(as_array(x.data.prod(axis=axis, keepdims=as_flag(keepdim), dtype=dtype or np.int64)))
    out = _wide(x.data).prod(axis=axis, keepdims=as_flag(keepdim)).astype(x.dtype, copy=False)
    return record(out, (x,), prod_backward, x=x.data, axis=axis)


def prod_backward(dout: Array, x: Array, axis: Shape) -> Array:
    # the product of the others, from those before and those after: out / x would be 0 / 0 for a factor of 0
    kept = tuple(i for i in range(x.ndim) if i not in axis)
    rows = x.transpose(kept + axis)  # the factors of one product along the last axis
    factors = rows.reshape(*(x.shape[i] for i in kept), _count(x.shape, axis))
    after = _before(factors[..., ::-1])[..., ::-1]
    others = (_before(factors) * after).reshape(rows.shape).transpose(np.argsort(kept + axis))
    return _restored(dout, x.shape, axis) * others


def _before(factors: Array) -> Array:
    """For each factor the product of those before it along the last axis; 1 for the first."""
    products = np.ones_like(factors)
    products[..., 1:] = np.cumprod(factors[..., :-1], axis=-1)
    return products


@numpy_keywords(axis="dim")
def cumsum(input: TensorLike, dim: int | None = None, *, dtype: DType = None, **numpy: Unpack[Axis]) -> Tensor:
    """Sums of the elements up to each one along `dim`; without `dim` of all elements in one row, as in NumPy."""
    x, axis = input, dim = _row(input, dim, dtype)
    if x.dtype.kind in "bui":
        return Tensor(_running(np.cumsum, x.data, axis, dtype or np.int64))
    return record(_running(np.cumsum, x.data, axis), (x,), cumsum_backward, axis=axis)


def cumsum_backward(dout: Array, axis: int) -> Array:
    if dout.ndim == 0:
        return dout
    return np.flip(_running(np.cumsum, np.flip(dout, axis), axis), axis)  # element i is in the sums from i on


@numpy_keywords(axis="dim")
def cumprod(input: TensorLike, dim: int | None = None, *, dtype: DType = None, **numpy: Unpack[Axis]) -> Tensor:
    """Products of the elements up to each one along `dim`; without `dim` of all elements in one row, as in NumPy."""
    x, axis = input, dim = _row(input, dim, dtype)
    if x.dtype.kind in "bui":
        return Tensor(_running(np.cumprod, x.data, axis, dtype or np.int64))
    return record(_running(np.cumprod, x.data, axis), (x,), cumprod_backward, x=x.data, axis=axis)


def cumprod_backward(dout: Array, x: Array, axis: int) -> Array:
    if dout.ndim == 0:
        return dout
    factors, total = np.moveaxis(_wide(x), axis, -1), np.moveaxis(_wide(dout), axis, -1).copy()
    # total_j = dout_j + x_(j+1) total_(j+1), for all j at once: of 1, 2, 4 ... products from j on
    between, step = factors[..., 1:], 1  # between_j: the factors that lead from j to j + step
    while step < total.shape[-1]:
        total[..., :-step] += between * total[..., step:]
        between, step = between[..., :-step] * between[..., step:], 2 * step
    return np.moveaxis(_before(factors) * total, -1, axis).astype(x.dtype, copy=False)


def _row(x: TensorLike, dim: int | None, dtype: DType) -> tuple[Tensor, int]:
    """x as a Tensor of that dtype, and the axis to run along; without one all elements in one row."""
    x = _input(x, dtype)
    x = reshape(x, -1) if dim is None else x
    return x, 0 if dim is None or x.ndim == 0 else np.lib.array_utils.normalize_axis_index(dim, x.ndim)


def _running(function: Callable[..., Array], x: Array, axis: int, dtype: DType = None) -> Array:
    """np.cumsum or np.cumprod of an array that may have no axis. dtype: for integers."""
    if dtype is not None:
        return function(x, axis=axis, dtype=dtype).reshape(x.shape)
    wide = x.dtype if x.dtype.itemsize > 4 else np.float64
    return function(x, axis=axis, dtype=wide).astype(x.dtype, copy=False).reshape(x.shape)
