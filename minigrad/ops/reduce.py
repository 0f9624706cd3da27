"""Reductions over any axes: `dim` is None or () for all of them, an int or a tuple. Products stand in `cumulative.py`.

Signatures are PyTorch's; `axis` and `keepdims` are taken too. Sums are `accurate_sum`s: their error does not grow with
the number of rows. float16 is summed in float32. Integers are summed as int64; in `mean` and `logsumexp` they become
float32; `var`, `std` and `norm` refuse them, as PyTorch does. Where an operation converts its input it assigns to the
parameter too, which check mode reads.
"""

from __future__ import annotations

import builtins
import math
from typing import Any, Unpack, overload

import numpy as np

from kernels.arrays import accurate_sum, as_array
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Axes, AxisKeepdims, DType, Shape, TensorLike
from minigrad.keywords import NO_AXES, is_empty_tuple, numpy_keywords, reduction, two_meanings
from minigrad.ops.checks import as_flag
from minigrad.ops.elementwise import abs as absolute
from minigrad.ops.elementwise import astype, exp, log, sqrt, where
from minigrad.ops.shape import reshape


def _normalised(dim: Axes, ndim: int) -> Shape:
    """The axes reduced over, as a tuple of non-negative ints."""
    if type(dim) is int and -ndim <= dim < ndim:
        return (dim % ndim,)
    if dim is NO_AXES:
        return ()
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    try:
        if isinstance(dim, bool):
            raise TypeError
        axes = np.lib.array_utils.normalize_axis_tuple(dim, builtins.max(ndim, 1), argname="dim")
    except TypeError:
        raise TypeError(f"dim is {dim!r}; expected an int, a tuple of ints or None") from None
    return axes if ndim else ()  # a number may be said to have one axis, as in PyTorch


def _restored(array: Array, shape: Shape, axis: Shape) -> Array:
    """A reduced array with its lost axes back as 1s, so that it broadcasts against the input."""
    return array.reshape([1 if i in axis else n for i, n in enumerate(shape)])


def _count(shape: Shape, axis: Shape) -> int:
    n = 1
    for i in axis:
        n *= shape[i]
    return n


def _check_elements(name: str, x: Tensor, axis: Shape) -> None:
    if 0 in x.shape and not _count(x.shape, axis):
        raise ValueError(f"{name}: {x.shape} is empty over axes {axis}; expected at least one element")


def _input(x: TensorLike, dtype: DType = None) -> Tensor:
    """x as a Tensor, of another dtype if one is given; no gradient passes an integer one."""
    x = as_tensor(x)
    if dtype is None:
        return x
    return astype(x if np.dtype(dtype).kind == "f" else Tensor(x.data), dtype)


def _floats(name: str, x: TensorLike) -> Tensor:
    """x, which must be floats."""
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{name} takes floating-point tensors, not {x.dtype}; convert with .astype(np.float32)")
    return x


def _wide(array: Array) -> Array:
    """float16 as float32, which its sums are formed in."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


@reduction
def sum(
    input: TensorLike, dim: Axes = None, keepdim: bool = False, *, dtype: DType = None, **numpy: Unpack[AxisKeepdims]
) -> Tensor:
    """Sum over `dim`; dtype: the input is converted to it first. Integers and booleans give int64."""
    x = input = _input(input, dtype)
    axis = _normalised(dim, x.ndim)
    if x.dtype.kind in "bui":
        return Tensor(as_array(x.data.sum(axis=axis, keepdims=as_flag(keepdim), dtype=dtype or np.int64)))
    return record(accurate_sum(x.data, axis, as_flag(keepdim)), (x,), sum_backward, x_shape=x.shape, axis=axis)


def sum_backward(dout: Array, x_shape: Shape, axis: Shape) -> Array:
    return np.broadcast_to(_restored(dout, x_shape, axis), x_shape)


@reduction
def mean(
    input: TensorLike, dim: Axes = None, keepdim: bool = False, *, dtype: DType = None, **numpy: Unpack[AxisKeepdims]
) -> Tensor:
    """Mean over `dim`, NaN of no elements; dtype: the input is converted to it first. Integers give float32."""
    x = input = _input(input, dtype or (np.float32 if as_tensor(input).dtype.kind in "bui" else None))
    axis = _normalised(dim, x.ndim)
    n = _count(x.shape, axis)
    out = accurate_sum(_wide(x.data), axis, as_flag(keepdim)) / (n or math.nan)
    return record(out.astype(x.dtype, copy=False), (x,), mean_backward, x_shape=x.shape, axis=axis)


def mean_backward(dout: Array, x_shape: Shape, axis: Shape) -> Array:
    n = _count(x_shape, axis) or 1  # of no elements there is no gradient
    return np.broadcast_to(_restored(dout / n, x_shape, axis), x_shape)


def _squares(x: Array, axis: Shape, keepdim: bool) -> Array:
    """The sum of squared distances from the mean over `axis`, of a plain array."""
    n = _count(x.shape, axis)
    centred = x - accurate_sum(x, axis, keepdims=True) / (n or math.nan)
    return accurate_sum(centred * centred, axis, as_flag(keepdim))


def _numpy_var(
    a: TensorLike,
    axis: Axes = None,
    dtype: DType = None,
    *,
    ddof: float | None = None,
    correction: float | None = None,
    keepdims: bool = False,
) -> Tensor:
    correction = (ddof or 0) if correction is None else correction
    return var(_input(a, dtype), NO_AXES if is_empty_tuple(axis) else axis, keepdim=keepdims, correction=correction)


def _numpy_std(
    a: TensorLike,
    axis: Axes = None,
    dtype: DType = None,
    *,
    ddof: float | None = None,
    correction: float | None = None,
    keepdims: bool = False,
) -> Tensor:
    correction = (ddof or 0) if correction is None else correction
    return std(_input(a, dtype), NO_AXES if is_empty_tuple(axis) else axis, keepdim=keepdims, correction=correction)


def _whose_var(input: TensorLike, *args: Any, **keywords: Any) -> str | None:
    # `correction` means the same in both; positional: PyTorch's (unbiased), (dim, unbiased), (dim, unbiased, keepdim)
    if keywords.get("correction") is not None or builtins.any(isinstance(arg, (bool, np.bool)) for arg in args):
        return "torch"
    return None


@overload
def var(
    input: TensorLike,
    dim: Axes | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor: ...
@overload
def var(
    a: TensorLike,
    axis: Axes = None,
    dtype: DType = None,
    *,
    ddof: float | None = None,
    correction: float | None = None,
    keepdims: bool = False,
) -> Tensor: ...
@two_meanings(_numpy_var, _whose_var)
def var(
    input: TensorLike,
    dim: Axes | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Variance over `dim`: squared distances from the mean, summed and divided by n - correction, or by 0 below that.

    correction: 1 with PyTorch's keywords, 0 with NumPy's `axis`, `keepdims`, `ddof`, which is its name for it;
    unbiased=False is correction=0. A call with neither, as in var(x) or var(x, 0), raises TypeError.
    """
    x = _floats("var", input)
    axis, ddof = _axis_and_ddof("var", x, dim, unbiased, correction)
    divisor = builtins.max(_count(x.shape, axis) - ddof, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # of one row, 0 / 0
        out = (_squares(_wide(x.data), axis, keepdim) / float(divisor)).astype(x.dtype, copy=False)
    return record(out, (x,), var_backward, x=x.data, axis=axis, correction=ddof)


def var_backward(dout: Array, x: Array, axis: Shape, correction: float) -> Array:
    # the mean moves with x too, but sum(x - mean) = 0 makes that part vanish
    n = _count(x.shape, axis)
    centred = x - (accurate_sum(_wide(x), axis, keepdims=True) / (n or 1)).astype(x.dtype, copy=False)
    with np.errstate(invalid="ignore"):  # of one row, inf * 0
        return _restored(dout, x.shape, axis) * centred * (2.0 / (n - correction) if n != correction else np.inf)


def _axis_and_ddof(
    name: str, x: Tensor, dim: Axes | bool, unbiased: bool | None, correction: float | None
) -> tuple[Shape, float]:
    """The axes, and what is taken from n, in either spelling."""
    if isinstance(dim, (bool, np.bool)):  # var(x, False)
        dim, unbiased = None, bool(dim)
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}: give unbiased or correction, not both")
    correction = (1 if unbiased is None else int(unbiased)) if correction is None else correction
    # NumPy's float64 would widen the gradient
    return _normalised(dim, x.ndim), correction if isinstance(correction, int) else float(correction)


@overload
def std(
    input: TensorLike,
    dim: Axes | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor: ...
@overload
def std(
    a: TensorLike,
    axis: Axes = None,
    dtype: DType = None,
    *,
    ddof: float | None = None,
    correction: float | None = None,
    keepdims: bool = False,
) -> Tensor: ...
@two_meanings(_numpy_std, _whose_var)
def std(
    input: TensorLike,
    dim: Axes | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Standard deviation over `dim`, the root of `var`, whose arguments it takes; the gradient at 0 is 0."""
    x = _floats("std", input)
    axis, ddof = _axis_and_ddof("std", x, dim, unbiased, correction)
    squared = var(x, axis or NO_AXES, keepdim=keepdim, correction=ddof)
    is_zero = squared.data == 0
    return where(is_zero, 0.0, sqrt(where(is_zero, 1.0, squared)))


@reduction
def amax(input: TensorLike, dim: Axes = None, keepdim: bool = False, **numpy: Unpack[AxisKeepdims]) -> Tensor:
    """Largest element over `dim`; equal ones share the gradient, and NaNs have it."""
    x = as_tensor(input)
    axis = _normalised(dim, x.ndim)
    _check_elements("amax", x, axis)
    out = x.data.max(axis=axis, keepdims=as_flag(keepdim))
    return record(out, (x,), amax_backward, x=x.data, out=out, axis=axis)


def amax_backward(dout: Array, x: Array, out: Array, axis: Shape) -> Array:
    out = _restored(out, x.shape, axis)
    chosen = ((x == out) | (x != x) & (out != out)).astype(dout.dtype)
    return _restored(dout, x.shape, axis) * chosen / chosen.sum(axis=axis, keepdims=True)


@reduction
def amin(input: TensorLike, dim: Axes = None, keepdim: bool = False, **numpy: Unpack[AxisKeepdims]) -> Tensor:
    """Smallest element over `dim`; equal ones share the gradient, and NaNs have it."""
    x = as_tensor(input)
    axis = _normalised(dim, x.ndim)
    _check_elements("amin", x, axis)
    out = x.data.min(axis=axis, keepdims=as_flag(keepdim))
    return record(out, (x,), amin_backward, x=x.data, out=out, axis=axis)


def amin_backward(dout: Array, x: Array, out: Array, axis: Shape) -> Array:
    return amax_backward(dout, x, out, axis)  # chooses by equality with `out`, whichever end that is


@numpy_keywords(axis="dim", keepdims="keepdim")
def norm(
    input: TensorLike,
    p: float | str | None = "fro",
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: DType = None,
    ord: float | str | None = None,
    **numpy: Unpack[AxisKeepdims],
) -> Tensor:
    """(sum |x|^p)^(1/p) over `dim`, of vectors as in torch.norm: p a number, inf, -inf, 0 (counts), or "fro" for 2.

    ord: as in numpy.linalg.norm, p of a vector; of a matrix 1 and -1 (the largest and smallest sum of a column), inf
    and -inf (of a row) or "fro". The gradient at 0 is 0. Equal largest elements share the gradient of p = inf.
    """
    x = input = _floats("norm", _input(input, dtype))
    if ord is not None:
        if p != "fro":
            raise TypeError("norm: give p or ord, not both")
        return _norm_of_order(x, ord, dim, keepdim)
    p = 2.0 if p is None or p == "fro" else p
    if not isinstance(p, (int, float, np.number)):
        raise ValueError(f'norm: p is {p!r}; expected a number, inf, -inf or "fro"')
    axis = _normalised(dim, x.ndim)
    # squares of float32 overflow from 2e19 on
    magnitudes = np.abs(x.data.astype(np.float64) if x.dtype.itemsize < 8 else x.data)
    if abs(p) == np.inf:
        out = (magnitudes.max if p > 0 else magnitudes.min)(axis=axis, keepdims=as_flag(keepdim))
    elif p == 0:
        out = accurate_sum((magnitudes != 0).astype(magnitudes.dtype), axis, as_flag(keepdim))
    else:
        out = accurate_sum(magnitudes**p, axis, as_flag(keepdim)) ** (1.0 / p)
    out = out.astype(x.dtype, copy=False)
    return record(out, (x,), norm_backward, x=x.data, out=out, axis=axis, p=float(p))


def _norm_of_order(x: Tensor, ord: float | str, dim: Axes, keepdim: bool) -> Tensor:
    """NumPy's norm of vectors or matrices."""
    axes = _normalised(dim, x.ndim)
    if len(axes) not in (1, 2):
        raise ValueError(f"norm: ord needs a vector or a matrix, not {len(axes)} axes; say axis=, or p= over all")
    if len(axes) == 1 or ord == "fro":
        return norm(x, ord, axes, keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(
            f'norm: ord is {ord!r}; of a matrix it may be 1, -1, inf, -inf or "fro"; p= is over all elements'
        )
    summed, compared = axes if ord in (1, -1) else axes[::-1]
    sums = sum(absolute(x), summed, keepdim=True)
    out = (amax if float(ord) > 0 else amin)(sums, compared, keepdim=True)
    return out if keepdim else reshape(out, [n for i, n in enumerate(x.shape) if i not in axes])


def norm_backward(dout: Array, x: Array, out: Array, axis: Shape, p: float) -> Array:
    dout, out = _restored(dout, x.shape, axis), _restored(out, x.shape, axis)
    if p == 0:
        return np.zeros_like(x)
    if abs(p) == np.inf:
        return np.sign(x) * amax_backward(dout, np.abs(x), out, axis)
    # |x / out| is at most 1: no power of it overflows
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.sign(x) * (np.abs(x) / out) ** (p - 1)
    return np.where((out == 0) | (x == 0) & (p < 2), 0, dout * slope).astype(x.dtype, copy=False)


@overload
def logsumexp(input: TensorLike, dim: Axes, keepdim: bool = False) -> Tensor: ...
@overload
def logsumexp(input: TensorLike, *, axis: Axes, keepdims: bool = False) -> Tensor: ...
@numpy_keywords(overloads=True, axis="dim", keepdims="keepdim")
def logsumexp(input: TensorLike, dim: Axes, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over `dim`; the largest element is taken out first, so that nothing overflows."""
    x = as_tensor(input)
    x = x if x.dtype.kind == "f" else astype(x, np.float32)
    axis = _normalised(dim, x.ndim)
    if x.size:
        largest = x.data.max(axis=axis, keepdims=True)
        largest = np.where(np.isfinite(largest), largest, np.zeros_like(largest))
    else:
        largest = np.zeros((), x.dtype, like=x.data)
    out = log(sum(exp(x - Tensor(largest)), axis or NO_AXES, keepdim=True)) + Tensor(largest)
    return out if keepdim else reshape(out, [n for i, n in enumerate(x.shape) if i not in axis])


@numpy_keywords(axis="dim", keepdims="keepdim")
def all(input: TensorLike, dim: Axes = None, keepdim: bool = False, **numpy: Unpack[AxisKeepdims]) -> Tensor:
    """Whether all elements over `dim` are true (not 0); booleans, without a gradient. dim=() reduces nothing."""
    x = as_tensor(input)
    axis = _normalised(NO_AXES if is_empty_tuple(dim) else dim, x.ndim)
    return Tensor(as_array(x.data.all(axis=axis, keepdims=as_flag(keepdim))))


@numpy_keywords(axis="dim", keepdims="keepdim")
def any(input: TensorLike, dim: Axes = None, keepdim: bool = False, **numpy: Unpack[AxisKeepdims]) -> Tensor:
    """Whether any element over `dim` is true (not 0); booleans, without a gradient. dim=() reduces nothing."""
    x = as_tensor(input)
    axis = _normalised(NO_AXES if is_empty_tuple(dim) else dim, x.ndim)
    return Tensor(as_array(x.data.any(axis=axis, keepdims=as_flag(keepdim))))


@reduction
def count_nonzero(
    input: TensorLike, dim: Axes = None, *, keepdim: bool = False, **numpy: Unpack[AxisKeepdims]
) -> Tensor:
    """The number of elements over `dim` that are not 0, as int64; without a gradient."""
    x = as_tensor(input)
    return Tensor(as_array((x.data != 0).sum(axis=_normalised(dim, x.ndim), keepdims=as_flag(keepdim))))
