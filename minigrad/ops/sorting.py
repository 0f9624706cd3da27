"""Order: sort, argsort, topk, argmax and argmin; max, min and median, which have PyTorch's meaning and NumPy's.

Indices have no gradient. Values are picked by them, so that the gradient goes to the elements that were picked; equal
elements stay in their order. NaN counts as the largest, as in both libraries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack, overload

import numpy as np

from kernels.arrays import as_array, is_array
from minigrad._tensor import Tensor, as_tensor
from minigrad.argument_types import Array, Axes, OneAxisKeepdims, TensorLike
from minigrad.keywords import numpy_keywords, two_meanings
from minigrad.ops.checks import whole
from minigrad.ops.elementwise import floating, maximum, minimum
from minigrad.ops.indexing import take_along_dim
from minigrad.ops.reduce import amax, amin, mean
from minigrad.ops.shape import reshape, squeeze, transpose


class ValuesAndIndices(NamedTuple):
    """What `sort`, `topk`, `max`, `min` and `median` give with `dim`: elements, and where they stood along it."""

    values: Tensor
    indices: Tensor


def _order(x: Array, dim: int, descending: bool) -> Array:
    """The indices that sort an array of at least one axis along `dim`, equal elements in their order."""
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    # from the end, so that the order of equal elements is right after the result is turned round
    return np.flip(x.shape[dim] - 1 - np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)


def _picked(x: Tensor, dim: int, indices: Array) -> ValuesAndIndices:
    """The elements at `indices` along `dim`, and the indices, of a Tensor that may have no axis."""
    if x.ndim == 0:
        return ValuesAndIndices(reshape(take_along_dim(reshape(x, 1), indices.reshape(1), 0), ()), Tensor(indices))
    return ValuesAndIndices(take_along_dim(x, indices, dim), Tensor(indices))


def _rows(x: Tensor, dim: int) -> tuple[Array, int]:
    """x with at least one axis, as in PyTorch's functions of an axis, and the axis `dim` of it."""
    data = x.data if x.ndim else x.data.reshape(1)
    return data, np.lib.array_utils.normalize_axis_index(dim, data.ndim)


def _numpy_argsort(
    a: TensorLike, axis: int | None = -1, kind: str | None = None, *, stable: bool = True, descending: bool = False
) -> Tensor:
    return argsort(a, dim=axis, descending=descending)


def _whose_argsort(
    input: TensorLike, dim: int | None = -1, descending: bool | str = False, *, stable: bool = True
) -> str:
    return "numpy" if isinstance(descending, str) else "torch"  # without one they give the same


@overload
def argsort(input: TensorLike, dim: int | None = -1, descending: bool = False, *, stable: bool = True) -> Tensor: ...
@overload
def argsort(
    a: TensorLike, axis: int | None = -1, kind: str | None = None, *, stable: bool = True, descending: bool = False
) -> Tensor: ...
@two_meanings(_numpy_argsort, _whose_argsort)
def argsort(input: TensorLike, dim: int | None = -1, descending: bool = False, *, stable: bool = True) -> Tensor:
    """The indices that sort along `dim`, int64; dim=None: of all elements in one row. The sort is always stable."""
    x = as_tensor(input)
    x = reshape(x, -1) if dim is None else x
    data, dim = _rows(x, -1 if dim is None else dim)
    return Tensor(_order(data, dim, descending).reshape(x.shape))


def _numpy_sort(
    a: TensorLike,
    axis: int | None = -1,
    kind: str | None = None,
    *,
    stable: bool = True,
    descending: bool = False,  # in NumPy since 2.5
) -> Tensor:
    x, axis = (reshape(as_tensor(a), -1), 0) if axis is None else (as_tensor(a), axis)
    return sort(x, dim=axis, descending=descending).values


def _whose_sort(input: TensorLike, *args: Any, **keywords: Any) -> str | None:
    return "torch" if len(args) > 1 and isinstance(args[1], (bool, np.bool)) else None


@overload
def sort(input: TensorLike, *, dim: int, descending: bool = False, stable: bool = True) -> ValuesAndIndices: ...
@overload
def sort(input: TensorLike, dim: int, descending: bool, *, stable: bool = True) -> ValuesAndIndices: ...
@overload
def sort(
    a: TensorLike, *, axis: int | None, kind: str | None = None, stable: bool = True, descending: bool = False
) -> Tensor: ...
@two_meanings(_numpy_sort, _whose_sort)
def sort(input: TensorLike, dim: int = -1, descending: bool = False, *, stable: bool = True) -> ValuesAndIndices:
    """(values, indices), sorted along `dim`; with NumPy's keyword `axis` the values alone, axis=None of all elements.

    Without either: TypeError. The sort is always stable.
    """
    x = as_tensor(input)
    data, dim = _rows(x, dim)
    return _picked(x, dim, _order(data, dim, descending).reshape(x.shape))


def topk(input: TensorLike, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """(values, indices) of the k largest elements along `dim`, or of the smallest; always in order."""
    x = as_tensor(input)
    data, dim = _rows(x, dim)
    k = whole("topk: k", k)
    if not 0 <= k <= data.shape[dim]:
        raise ValueError(f"topk: k is {k}; expected 0 to {data.shape[dim]}, the elements along axis {dim}")
    indices = _order(data, dim, largest)[(slice(None),) * dim + (slice(k),)]
    return _picked(x, dim, indices if x.ndim or not k else indices.reshape(()))


def _arg(name: str, choose: Callable[..., Array], x: Tensor, dim: int | None, keepdim: bool) -> Array:
    if dim is None and x.size == 0:
        raise ValueError(f"{name} of a tensor without elements")
    if dim is None:
        return as_array(choose(x.data)).reshape((1,) * x.ndim if keepdim else ())
    data, dim = _rows(x, dim)
    chosen = as_array(choose(data, axis=dim, keepdims=keepdim))  # ValueError if the axis is empty
    return chosen if x.ndim else chosen.reshape(())


@numpy_keywords(axis="dim", keepdims="keepdim")
def argmax(
    input: TensorLike, dim: int | None = None, keepdim: bool = False, **numpy: Unpack[OneAxisKeepdims]
) -> Tensor:
    """The index of the first largest element along `dim`, int64; without dim: in the row of all elements."""
    return Tensor(_arg("argmax", np.argmax, as_tensor(input), dim, keepdim))


@numpy_keywords(axis="dim", keepdims="keepdim")
def argmin(
    input: TensorLike, dim: int | None = None, keepdim: bool = False, **numpy: Unpack[OneAxisKeepdims]
) -> Tensor:
    """The index of the first smallest element along `dim`, int64; without dim: in the row of all elements."""
    return Tensor(_arg("argmin", np.argmin, as_tensor(input), dim, keepdim))


def _whose_extremum(input: TensorLike, *args: Any, **keywords: Any) -> str | None:
    """Alone, both reduce over all axes; (x, dim, keepdim) and (x, other) are PyTorch's."""
    if not args:
        return "torch"
    of_two = isinstance(args[0], Tensor) or is_array(args[0])
    return (
        "torch"
        if of_two or (len(args) > 1 and isinstance(args[1], (bool, np.bool)))
        else "numpy"
        if args[0] is None
        else None
    )


def _with_indices(x: Tensor, dim: int, keepdim: bool, indices: Array) -> ValuesAndIndices:
    """The elements at `indices`, of length 1 along `dim`, and the indices."""
    values = _picked(x, dim, indices)
    if keepdim or x.ndim == 0:
        return values
    return ValuesAndIndices(squeeze(values.values, dim), squeeze(values.indices, dim))


def _other_by_position(op: Callable[..., Any]) -> Callable[..., Any]:
    """max(x, y) of tensors is max(x, other=y); max(x, dim=y) is along the axis y, a number of NumPy's too."""

    @functools.wraps(op)
    def told_apart(*args: Any, **keywords: Any) -> Any:
        if len(args) == 2 and (isinstance(args[1], Tensor) or is_array(args[1])):
            return op(args[0], other=args[1], **keywords)
        return op(*args, **keywords)

    return told_apart


def _numpy_max(a: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return amax(a, axis=axis, keepdims=keepdims)


@overload
def max(input: TensorLike) -> Tensor: ...
@overload
def max(input: TensorLike, other: Tensor | Array) -> Tensor: ...
@overload
def max(input: TensorLike, *, other: TensorLike) -> Tensor: ...
@overload
def max(input: TensorLike, *, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
@overload
def max(input: TensorLike, dim: int, keepdim: bool) -> ValuesAndIndices: ...
@overload
def max(a: TensorLike, axis: None = None, *, keepdims: bool) -> Tensor: ...
@overload
def max(a: TensorLike, *, axis: Axes, keepdims: bool = False) -> Tensor: ...
@two_meanings(_numpy_max, _whose_extremum)
@_other_by_position
def max(
    input: TensorLike, dim: Any = None, keepdim: bool = False, *, other: TensorLike | None = None
) -> Tensor | ValuesAndIndices:
    """The largest element; with `dim` (values, indices) along it; with `other`, a tensor, the larger of each two.

    With NumPy's keyword `axis` the values alone. An axis without keyword raises TypeError. The gradient goes to the
    element of the index; without dim, or with axis, equal elements share it.
    """
    x = as_tensor(input)
    if other is not None:
        return maximum(x, other)
    return amax(x) if dim is None else _with_indices(x, dim, keepdim, argmax(x, dim, keepdim=True).data)


def _numpy_min(a: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return amin(a, axis=axis, keepdims=keepdims)


@overload
def min(input: TensorLike) -> Tensor: ...
@overload
def min(input: TensorLike, other: Tensor | Array) -> Tensor: ...
@overload
def min(input: TensorLike, *, other: TensorLike) -> Tensor: ...
@overload
def min(input: TensorLike, *, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
@overload
def min(input: TensorLike, dim: int, keepdim: bool) -> ValuesAndIndices: ...
@overload
def min(a: TensorLike, axis: None = None, *, keepdims: bool) -> Tensor: ...
@overload
def min(a: TensorLike, *, axis: Axes, keepdims: bool = False) -> Tensor: ...
@two_meanings(_numpy_min, _whose_extremum)
@_other_by_position
def min(
    input: TensorLike, dim: Any = None, keepdim: bool = False, *, other: TensorLike | None = None
) -> Tensor | ValuesAndIndices:
    """The smallest element; with `dim` (values, indices) along it; with `other` the smaller of each two. See `max`."""
    x = as_tensor(input)
    if other is not None:
        return minimum(x, other)
    return amin(x) if dim is None else _with_indices(x, dim, keepdim, argmin(x, dim, keepdim=True).data)


def _numpy_median(a: TensorLike, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
    x = floating(a)
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    shape = [x.shape[i] for i in kept]
    rows = reshape(transpose(x, axes=kept + axes), (*shape, -1))
    n = rows.shape[-1]
    middle = take_along_dim(rows, _middle(rows.data, (n - 1) // 2, n // 2), -1)
    out = mean(middle, dim=-1)
    return reshape(out, [1 if i in axes else m for i, m in enumerate(x.shape)]) if keepdims else out


def _middle(rows: Array, first: int, last: int) -> Array:
    """Where the elements of rank `first` to `last` stand along the last axis; those of NaN where there is one."""
    if rows.shape[-1] == 0:
        raise ValueError("median of a tensor without elements")
    order = _order(rows, -1, False)
    greatest = order[..., -1:]
    is_nan = np.isnan(np.take_along_axis(rows, greatest, -1))
    return np.where(is_nan, greatest, order[..., first : last + 1])


def _whose_median(input: TensorLike, *args: Any, **keywords: Any) -> str | None:
    return "numpy" if args == (None,) else "torch" if len(args) > 1 and isinstance(args[1], (bool, np.bool)) else None


@overload
def median(input: TensorLike, *, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
@overload
def median(input: TensorLike, dim: int, keepdim: bool) -> ValuesAndIndices: ...
@overload
def median(a: TensorLike, *, axis: Axes, keepdims: bool = False) -> Tensor: ...
@two_meanings(_numpy_median, _whose_median)
def median(input: TensorLike, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(values, indices) along `dim`, of an even number the lower of the two in the middle; NaN where there is one.

    With NumPy's keyword `axis`, of which None means all, the mean of the two. Without either: TypeError.
    """
    x = as_tensor(input)
    data, dim = _rows(x, dim)
    rank = (data.shape[dim] - 1) // 2
    indices = np.moveaxis(_middle(np.moveaxis(data, dim, -1), rank, rank), -1, dim)
    return _with_indices(x, dim, keepdim, indices if x.ndim else indices.reshape(()))
