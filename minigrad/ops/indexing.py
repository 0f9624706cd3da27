"""Elements picked by index: x[index], gather, index_select, masked_select, triangles, diagonals.

All but getitem are made of it or of `where`. An array of indices is copied when a gradient will need it: a loader may
use its buffer again before backward.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from kernels.arrays import is_array
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.ambiguous import refuse
from minigrad.argument_types import Array, AxisOrNone, AxisPair, Diagonal, DType, Shape, TensorLike
from minigrad.keywords import numpy_keywords
from minigrad.ops.checks import whole
from minigrad.ops.elementwise import astype, where
from minigrad.ops.reduce import sum
from minigrad.ops.shape import broadcast_to, permute, reshape


def getitem(input: TensorLike, index: Any) -> Tensor:
    """x[index]: slices, ints, None, Ellipsis, integer or boolean arrays, or a tuple of them.

    IndexError for an index out of bounds. TypeError where NumPy and PyTorch answer differently: for a list of lists,
    for uint8, and for an int, then a slice or None, then an array, after which they order the axes in two ways.
    """
    x = as_tensor(input)
    index = raw_index(index, x)
    out = x.data[index]
    if not is_array(out):  # a NumPy number is a copy; a view has no axes either, and sees `x += v`
        index = (*index, ...) if isinstance(index, tuple) else (index, ...)
        out = x.data[index]
    return record(out, (x,), getitem_backward, x_shape=x.shape, index=index)


def getitem_backward(dout: Array, x_shape: Shape, index: Any) -> Array:
    dx = np.zeros(x_shape, dtype=dout.dtype, like=dout)
    parts = index if isinstance(index, tuple) else (index,)
    if all(i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice)) for i in parts):
        dx[index] = dout
    else:
        np.add.at(dx, index, dout)  # an element taken twice gets both gradients; dx[index] += would lose one
    return dx


def raw_index(index: Any, x: Any) -> Any:
    """An index as the array of x takes it. TypeError for one that is ambiguous."""
    if isinstance(index, list) and any(isinstance(part, (list, tuple, Tensor)) or is_array(part) for part in index):
        refuse("getitem", "index_list")
    index = tuple([_raw(part, x) for part in index]) if isinstance(index, tuple) else _raw(index, x)
    if isinstance(index, tuple) and len(index) > 2 and _is_ambiguous(index):
        refuse("getitem")
    return index


def _raw(part: Any, x: Tensor) -> Any:
    """A part of an index as x takes it: arrays lie where x lies, and are the node's own."""
    if isinstance(part, (int, slice)):
        return part
    part = part.data if isinstance(part, Tensor) else part
    if isinstance(part, list):
        part = np.asarray(part) if part else np.zeros(0, np.intp)
    if not is_array(part):
        return part
    if not part.ndim and part.dtype.kind in "iu":
        return int(part)  # as an array it would make the result a copy
    if part.dtype == np.uint8 and part.ndim:
        refuse("getitem", "index_uint8")
    return np.array(part, like=x.data) if x.requires_grad else np.asarray(part, like=x.data)


def _is_ambiguous(parts: tuple[Any, ...]) -> bool:
    """Whether the arrays' axes land elsewhere in NumPy, for which an int beside an array is an array too.

    Both put them first if a slice or None lies between two arrays, else in the place of the arrays.
    """
    kinds = "".join(
        "a" if is_array(part) and part.ndim else "i" if isinstance(part, (int, np.integer)) or is_array(part) else "s"
        for part in parts
    )
    torch = kinds.replace("i", "")
    if "i" not in kinds or "a" not in kinds or "s" in torch.strip("s"):
        return False
    return "s" in kinds.strip("s") and torch.startswith("s")


def gather(input: TensorLike, dim: int, index: TensorLike) -> Tensor:
    """out[i][j] = input[i][index[i][j]] for dim 1, and so on. index: int64, not larger than input except along dim."""
    x, indices = as_tensor(input), _indices("gather", index)
    if x.ndim + indices.ndim < 2:  # a number may be said to have one axis, as in PyTorch
        return reshape(gather(reshape(x, -1), dim, indices.reshape(-1)), indices.shape)
    if indices.size == 0:
        return reshape(getitem(reshape(x, -1), indices.reshape(-1)), indices.shape)
    if x.ndim != indices.ndim:
        raise ValueError(f"gather: index has {indices.ndim} axes, input has {x.ndim}; they must be as many")
    dim = np.lib.array_utils.normalize_axis_index(dim, x.ndim)
    if any(i != dim and n > x.shape[i] for i, n in enumerate(indices.shape)):
        raise ValueError(f"gather: index {indices.shape} is larger than input {x.shape} along another axis than {dim}")
    _check_range("gather", indices, dim, x.shape[dim])
    return getitem(x, _along(indices, dim))


def _along(index: Array, dim: int) -> tuple[Array, ...]:
    """The index arrays with which x[...] takes the elements `index` along `dim`."""
    shape = index.shape
    places = [np.arange(n).reshape([n if j == i else 1 for j in range(len(shape))]) for i, n in enumerate(shape)]
    return (*places[:dim], index, *places[dim + 1 :])


@numpy_keywords(axis="dim")
def take_along_dim(
    input: TensorLike, indices: TensorLike, dim: int | None = None, **numpy: Unpack[AxisOrNone]
) -> Tensor:
    """The elements `indices` along `dim`; indices and input broadcast along the others. No dim: of all elements."""
    x, index = as_tensor(input), _indices("take_along_dim", indices)
    if dim is None:
        return getitem(reshape(x, -1), index.reshape(-1))
    if x.ndim != index.ndim:
        raise ValueError(f"take_along_dim: indices has {index.ndim} axes, input has {x.ndim}; they must be as many")
    dim = np.lib.array_utils.normalize_axis_index(dim, x.ndim)
    others = np.broadcast_shapes(*(shape[:dim] + (1,) + shape[dim + 1 :] for shape in (x.shape, index.shape)))
    sizes = [others[:dim] + (n,) + others[dim + 1 :] for n in (x.shape[dim], index.shape[dim])]
    return getitem(broadcast_to(x, sizes[0]), _along(np.broadcast_to(index, sizes[1]), dim))


def take(input: TensorLike, index: TensorLike, axis: int | None = None) -> Tensor:
    """The elements `index` of all in one row, in the shape of index; or, as in NumPy, along `axis`."""
    x, index = as_tensor(input), _indices("take", index)
    if axis is None:
        return getitem(reshape(x, -1), index)
    x = x if x.ndim else reshape(x, 1)  # a number may be said to have one axis, as in NumPy
    dim = np.lib.array_utils.normalize_axis_index(axis, x.ndim)
    return getitem(x, (slice(None),) * dim + (index,))


def take_along_axis(arr: TensorLike, indices: TensorLike, axis: int | None = -1) -> Tensor:
    """NumPy's take_along_dim."""
    return take_along_dim(arr, indices, axis)


def index_select(input: TensorLike, dim: int, index: TensorLike) -> Tensor:
    """The rows `index` along `dim`; index: one axis of integers, none of them negative."""
    x, indices = as_tensor(input), _indices("index_select", index)
    if indices.ndim > 1:
        raise ValueError(f"index_select: index has {indices.ndim} axes, expected 1")
    if x.ndim == 0:
        return reshape(index_select(reshape(x, 1), dim, index), ())
    dim = np.lib.array_utils.normalize_axis_index(dim, x.ndim)
    _check_range("index_select", indices, dim, x.shape[dim])
    return getitem(x, (slice(None),) * dim + (indices.reshape(-1),))


def _indices(name: str, index: TensorLike) -> Array:
    """Integer indices as an array."""
    array = as_tensor(index).data
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name}: the index must be integers, not {array.dtype}")
    return array.astype(np.int64, copy=False)


def _check_range(name: str, index: Array, dim: int, n: int) -> None:
    """PyTorch's functions take no negative indices."""
    wrong = index[(index < 0) | (index >= n)]
    if wrong.size:
        raise IndexError(f"{name}: index {int(wrong.reshape(-1)[0])} is out of bounds for axis {dim} with size {n}")


def _mask(name: str, mask: TensorLike) -> Array:
    array = as_tensor(mask).data
    if array.dtype != bool:
        raise TypeError(f"{name}: the mask must be boolean, not {array.dtype}; compare, as in `mask != 0`")
    return array


def masked_fill(input: TensorLike, mask: TensorLike, value: TensorLike) -> Tensor:
    """`value`, a number or a tensor of one, where mask is true. mask: booleans that broadcast with input."""
    x = as_tensor(input)
    if isinstance(value, Tensor) or is_array(value):
        value = as_tensor(value)
        if value.ndim:
            raise ValueError(f"masked_fill: value has shape {value.shape}, expected a number; say where for arrays")
        value = astype(value, x.dtype) if x.dtype.kind == "f" else value
    out = where(_mask("masked_fill", mask), value, x)
    if out.dtype != x.dtype:
        raise TypeError(f"masked_fill: {x.dtype} cannot hold the value {value}; convert with .astype(...)")
    return out


def masked_select(input: TensorLike, mask: TensorLike) -> Tensor:
    """The elements where mask is true, along one axis. input and mask broadcast."""
    x, chosen = as_tensor(input), _mask("masked_select", mask)
    shape = np.broadcast_shapes(x.shape, chosen.shape)
    return getitem(broadcast_to(x, shape), np.broadcast_to(chosen, shape))


def _triangle(name: str, input: TensorLike, k: int, below: bool) -> Tensor:
    """Matrices, with zeros where the column minus the row is above k, or not above it unless `below`."""
    x = as_tensor(input)
    if x.ndim < 2:
        raise ValueError(f"{name} takes matrices, not a tensor of shape {x.shape}")
    kept = np.tri(x.shape[-2], x.shape[-1], k=k, dtype=bool) == below
    return where(np.asarray(kept, like=x.data), x, Tensor(np.zeros((), x.dtype, like=x.data)))


@numpy_keywords(k="diagonal")
def tril(input: TensorLike, diagonal: int = 0, **numpy: Unpack[Diagonal]) -> Tensor:
    """The lower triangle of matrices (..., M, N), zeros elsewhere; diagonal: how far above the main one it reaches."""
    return _triangle("tril", input, whole("tril: diagonal", diagonal), True)


@numpy_keywords(k="diagonal")
def triu(input: TensorLike, diagonal: int = 0, **numpy: Unpack[Diagonal]) -> Tensor:
    """The upper triangle of matrices (..., M, N), zeros elsewhere; diagonal: how far above the main one it begins."""
    return _triangle("triu", input, whole("triu: diagonal", diagonal) - 1, False)


@numpy_keywords(axis1="dim1", axis2="dim2")
def diagonal(input: TensorLike, offset: int = 0, dim1: int = 0, dim2: int = 1, **numpy: Unpack[AxisPair]) -> Tensor:
    """The diagonal of the axes dim1 and dim2, as the last axis; offset: how far above the main one."""
    x = as_tensor(input)
    first, second = np.lib.array_utils.normalize_axis_tuple((dim1, dim2), x.ndim)
    rows = np.arange(max(0, -offset), max(0, min(x.shape[first], x.shape[second] - offset)))
    kept = [i for i in range(x.ndim) if i not in (first, second)]
    matrices = permute(x, (*kept, first, second))
    out = getitem(matrices, (Ellipsis, rows, rows + offset))
    if isinstance(out.data, np.ndarray):
        out.data.flags.writeable = False  # as NumPy's: writing to this copy would not change x, as it does in PyTorch
    return out


@numpy_keywords(axis1="dim1", axis2="dim2")
def trace(
    input: TensorLike,
    offset: int = 0,
    dim1: int = 0,
    dim2: int = 1,
    *,
    dtype: DType = None,
    **numpy: Unpack[AxisPair],
) -> Tensor:
    """The sum of the diagonal, in dtype."""
    return sum(diagonal(input, offset, dim1, dim2), dim=-1, dtype=dtype)
