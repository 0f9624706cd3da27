"""Operations that move elements and never change them. Results are views where NumPy makes views.

A shape may be one tuple or several ints. `ops/joining.py` has those that join and cut, `ops/indexing.py` those that
pick elements.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from kernels.arrays import accurate_sum
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.ambiguous import refuse
from minigrad.argument_types import Array, Axes, Ints, Shape, TensorLike
from minigrad.keywords import numpy_keywords


def one_tuple(values: Sequence[Any], keyword: Ints | None = None, name: str = "shape") -> Shape:
    """The ints of f(2, 3) and of f((2, 3)), or those given by keyword."""
    if keyword is not None:
        if values:
            raise TypeError(f"{name} is given twice, by position and by keyword")
        values = (keyword,)
    if len(values) == 1 and not isinstance(values[0], (int, np.integer)):
        if getattr(values[0], "ndim", 1) == 0:
            return (operator.index(values[0]),)
        if not hasattr(values[0], "__iter__"):
            raise TypeError(f"{name} is {values[0]!r}; expected one tuple or several ints")
        return tuple(values[0])
    if not values:
        raise TypeError(f"{name} is missing; give one tuple or several ints")
    return tuple(values)


def reshape(input: TensorLike, *sizes: Ints, shape: Ints | None = None) -> Tensor:
    """The same elements in another shape, given as one tuple or as several ints; -1 is worked out."""
    x = as_tensor(input)
    return record(x.data.reshape(one_tuple(sizes, shape)), (x,), reshape_backward, x_shape=x.shape)


def reshape_backward(dout: Array, x_shape: Shape) -> Array:
    return dout.reshape(x_shape)


def view(input: TensorLike, *sizes: Ints, size: Ints | None = None) -> Tensor:
    """PyTorch's name for reshape; the data is copied where its order in memory asks for it."""
    return reshape(input, *sizes, shape=size)


def view_as(input: TensorLike, other: TensorLike) -> Tensor:
    """`input` in the shape of `other`."""
    return reshape(input, as_tensor(other).shape)


def reshape_as(input: TensorLike, other: TensorLike) -> Tensor:
    """`input` in the shape of `other`."""
    return reshape(input, as_tensor(other).shape)


def ravel(input: TensorLike) -> Tensor:
    """All elements along one axis."""
    return reshape(input, -1)


def flatten(input: TensorLike, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim made one; all of them if neither is given."""
    x = as_tensor(input)
    n = max(x.ndim, 1)
    start, end = (np.lib.array_utils.normalize_axis_index(axis, n) for axis in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def unflatten(input: TensorLike, dim: int, sizes: Ints) -> Tensor:
    """Axis `dim` cut into several of these sizes, one of which may be -1."""
    x = as_tensor(input)
    dim = np.lib.array_utils.normalize_axis_index(dim, x.ndim)
    parts = one_tuple((sizes,))
    if parts.count(-1) == 1:
        known = -math.prod(parts)
        parts = tuple(x.shape[dim] // known if n == -1 and known else n for n in parts)
    if math.prod(parts) != x.shape[dim] or min(parts, default=0) < 0:
        raise ValueError(f"unflatten: axis {dim} has {x.shape[dim]} elements, which {parts} does not hold")
    return reshape(x, (*x.shape[:dim], *parts, *x.shape[dim + 1 :]))


def transpose(
    input: TensorLike, *dims: Any, axes: Axes = None, dim0: int | None = None, dim1: int | None = None
) -> Tensor:
    """All axes reversed or a permutation, as in NumPy, `axes`; or two axes exchanged, as in PyTorch, `dim0` and `dim1`.

    Two ints by position exchange axes. Of a matrix (0, 1) would do nothing in NumPy, and raises TypeError.
    """
    x = as_tensor(input)
    if dim0 is not None or dim1 is not None:
        if axes is not None:
            raise TypeError("transpose: give axes, or dim0 and dim1, not both")
        return swapaxes(x, *dims, *(dim for dim in (dim0, dim1) if dim is not None))
    if axes is None and dims in ((), (None,)):
        return permute(x, range(x.ndim)[::-1])
    if axes is not None or len(dims) != 2 or not isinstance(dims[0], (int, np.integer)):
        return permute(x, one_tuple(dims, axes, "axes"))
    if x.ndim == 2 and tuple(np.lib.array_utils.normalize_axis_index(dim, 2) for dim in dims) == (0, 1):
        refuse("transpose")
    return swapaxes(x, *dims)


def permute(input: TensorLike, *order: Ints, dims: Axes = None, axes: Axes = None) -> Tensor:
    """Reorder the axes by a full permutation, of which NumPy's word is `axes`: axis i of the result is axis dims[i]."""
    if dims is not None and axes is not None:
        raise TypeError("permute: give dims or axes, not both")
    x = as_tensor(input)
    order = one_tuple(order, axes if dims is None else dims, "dims")
    try:
        out = x.data.transpose(order)
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(f"the axes are {order}; of {x.shape} expected each of 0..{x.ndim - 1} once") from None
    return record(out, (x,), transpose_backward, axes=tuple(axis % x.ndim for axis in order))


def transpose_backward(dout: Array, axes: Shape) -> Array:
    return dout.transpose(np.argsort(axes))


def swapaxes(input: TensorLike, axis0: int | None = None, axis1: int | None = None, axis2: int | None = None) -> Tensor:
    """Exchange two axes, which are called axis0 and axis1 in PyTorch, axis1 and axis2 in NumPy."""
    x = as_tensor(input)
    axes = [axis for axis in (axis0, axis1, axis2) if axis is not None]
    if len(axes) != 2:
        raise TypeError(f"swapaxes takes two axes, not {len(axes)}")
    if x.ndim == 0:
        np.lib.array_utils.normalize_axis_tuple(axes, 1, allow_duplicate=True)  # as if it had one axis, as in PyTorch
        return reshape(x, ())
    return record(x.data.swapaxes(*axes), (x,), swapaxes_backward, axis1=axes[0], axis2=axes[1])


def swapaxes_backward(dout: Array, axis1: int, axis2: int) -> Array:
    return dout.swapaxes(axis1, axis2)


def swapdims(input: TensorLike, dim0: int, dim1: int) -> Tensor:
    """PyTorch's name for swapaxes."""
    return swapaxes(input, dim0, dim1)


def moveaxis(input: TensorLike, source: Ints, destination: Ints) -> Tensor:
    """Move the axes `source`, an int or a tuple, to the places `destination`; the others keep their order."""
    x = as_tensor(input)
    moved, places = (np.lib.array_utils.normalize_axis_tuple(axes, x.ndim) for axes in (source, destination))
    if len(moved) != len(places):
        raise ValueError(f"moveaxis: {len(moved)} axes cannot be moved to {len(places)} places")
    order = [axis for axis in range(x.ndim) if axis not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return permute(x, order)


@overload
def expand_dims(input: TensorLike, axis: Ints) -> Tensor: ...
@overload
def expand_dims(input: TensorLike, *, dim: Ints) -> Tensor: ...
@numpy_keywords(overloads=True, dim="axis")
def expand_dims(input: TensorLike, axis: Ints) -> Tensor:
    """Insert axes of length 1 at `axis`, an int or a tuple."""
    x = as_tensor(input)
    return record(np.expand_dims(x.data, axis), (x,), expand_dims_backward, x_shape=x.shape)


def expand_dims_backward(dout: Array, x_shape: Shape) -> Array:
    return dout.reshape(x_shape)


def squeeze(input: TensorLike, dim: Axes = None, *, axis: Axes = None) -> Tensor:
    """Remove axes of length 1: all of them, or those named. One that is longer stays; NumPy's `axis=` refuses it."""
    x = as_tensor(input)
    if dim is not None and axis is not None:
        raise TypeError("squeeze: give axis or dim, not both")
    chosen = axis if axis is None or isinstance(axis, (int, np.integer)) else tuple(axis)
    if dim is not None:
        named = np.lib.array_utils.normalize_axis_tuple(dim, max(x.ndim, 1))
        chosen = tuple(i for i in named if i < x.ndim and x.shape[i] == 1)
    return record(x.data.squeeze(chosen), (x,), squeeze_backward, x_shape=x.shape)


def squeeze_backward(dout: Array, x_shape: Shape) -> Array:
    return dout.reshape(x_shape)


def broadcast_to(input: TensorLike, shape: Ints | None = None, *, size: Ints | None = None) -> Tensor:
    """Repeat along new axes and axes of length 1 until the shape is `shape`, which PyTorch calls `size`."""
    x = as_tensor(input)
    out = np.broadcast_to(x.data, one_tuple(() if shape is None else (shape,), size))
    return record(out, (x,), broadcast_to_backward, x_shape=x.shape)


def broadcast_to_backward(dout: Array, x_shape: Shape) -> Array:
    added = dout.ndim - len(x_shape)
    stretched = tuple(i + added for i, n in enumerate(x_shape) if n == 1)
    return accurate_sum(dout, tuple(range(added)) + stretched).reshape(x_shape)


def expand(input: TensorLike, *sizes: Ints, size: Ints | None = None) -> Tensor:
    """PyTorch's broadcast_to: the shape as one tuple or as several ints, where -1 keeps an axis as it is."""
    x = as_tensor(input)
    shape = one_tuple(sizes, size)
    if len(shape) < x.ndim:
        raise ValueError(f"expand: {len(shape)} sizes for a tensor of {x.ndim} axes; give one for each axis")
    added = len(shape) - x.ndim
    if -1 in shape[:added]:
        raise ValueError(f"expand: -1 in {shape} stands for a new axis; give its size")
    kept = shape[:added] + x.shape
    return broadcast_to(x, tuple(old if n == -1 else n for n, old in zip(shape, kept, strict=True)))


def expand_as(input: TensorLike, other: TensorLike) -> Tensor:
    """`input` repeated until it has the shape of `other`."""
    return expand(input, as_tensor(other).shape)
