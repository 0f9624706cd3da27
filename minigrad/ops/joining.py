"""Operations that join, cut and copy: concatenate and stack; split, chunk, unbind; repeat, tile, roll, flip, pad."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, Unpack, overload

import numpy as np

from kernels.arrays import on_host
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Axes, AxisOrNone, DType, Ints, OneAxis, Reps, TensorLike
from minigrad.keywords import numpy_keywords, two_meanings
from minigrad.ops.checks import whole
from minigrad.ops.elementwise import astype, clone, promoted
from minigrad.ops.indexing import getitem
from minigrad.ops.shape import broadcast_to, one_tuple, reshape


@overload
def concatenate(
    tensors: Sequence[TensorLike], dim: int | None = 0, *, dtype: DType = None, **numpy: Unpack[AxisOrNone]
) -> Tensor: ...
@overload
def concatenate(*, arrays: Sequence[TensorLike], axis: int | None = 0, dtype: DType = None) -> Tensor: ...
@numpy_keywords(overloads=True, axis="dim", arrays="tensors")
def concatenate(tensors: Sequence[TensorLike], dim: int | None = 0, *, dtype: DType = None) -> Tensor:
    """Join along an axis that exists; dim=None joins all elements in one row, and dtype converts, as in NumPy."""
    if getattr(dim, "ndim", 0):
        raise TypeError("concatenate: dim is an array; give the tensors as one list, as in cat([a, b])")
    parts, axis = _of_one_dtype(tensors, dtype), 0 if dim is None else dim
    if dim is None:
        parts = [reshape(t, -1) for t in parts]
    if builtins.any(t.ndim > 1 for t in parts):
        parts = [t for t in parts if t.shape != (0,)]  # PyTorch takes an empty list of rows for rows of any shape
    out = np.concatenate([t.data for t in parts], axis=axis)
    tensors, dim = parts, axis  # check mode reads what was computed on from the parameters
    return record(out, parts, concatenate_backward, sizes=[t.shape[axis] for t in parts], axis=axis)


def concatenate_backward(dout: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    return tuple(np.split(dout, np.cumsum(sizes)[:-1].tolist(), axis=axis))


@overload
def stack(tensors: Sequence[TensorLike], dim: int = 0, *, dtype: DType = None, **numpy: Unpack[OneAxis]) -> Tensor: ...
@overload
def stack(*, arrays: Sequence[TensorLike], axis: int = 0, dtype: DType = None) -> Tensor: ...
@numpy_keywords(overloads=True, axis="dim", arrays="tensors")
def stack(tensors: Sequence[TensorLike], dim: int = 0, *, dtype: DType = None) -> Tensor:
    """Join along a new axis. dtype: converted first, as in NumPy."""
    tensors = parts = _of_one_dtype(tensors, dtype)  # as in `concatenate`
    return record(np.stack([t.data for t in parts], axis=dim), parts, stack_backward, axis=dim)


def stack_backward(dout: Array, axis: int) -> tuple[Array, ...]:
    return tuple(np.moveaxis(dout, axis, 0))


def _of_one_dtype(tensors: Iterable[TensorLike], dtype: DType) -> list[Tensor]:
    parts = list(tensors)
    if dtype is not None:
        return [astype(t, dtype) for t in parts]
    return promoted(*parts) if parts else []


def vstack(tensors: Sequence[TensorLike], *, dtype: DType = None) -> Tensor:
    """Join rows: along axis 0, vectors as rows. dtype: converted first, as in NumPy."""
    parts = [as_tensor(t) for t in tensors]
    return concatenate([reshape(t, (1, t.size)) if t.ndim < 2 else t for t in parts], 0, dtype=dtype)


def hstack(tensors: Sequence[TensorLike], *, dtype: DType = None) -> Tensor:
    """Join columns: along axis 1, of vectors along axis 0. dtype: converted first, as in NumPy."""
    parts = [reshape(t, 1) if t.ndim == 0 else t for t in map(as_tensor, tensors)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype)


# ---- cut


def _cut(x: Tensor, cuts: Iterable[int], dim: int) -> tuple[Tensor, ...]:
    """The parts between neighbouring `cuts` along an axis, each a getitem."""
    before = (builtins.slice(None),) * dim
    return tuple(getitem(x, (*before, builtins.slice(a, b))) for a, b in itertools.pairwise(cuts))


def _axis(x: Tensor, dim: int) -> int:
    return np.lib.array_utils.normalize_axis_index(dim, x.ndim)


def _numpy_split(ary: TensorLike, indices_or_sections: Ints, axis: int = 0) -> list[Tensor]:
    x = as_tensor(ary)
    dim = _axis(x, axis)
    n = x.shape[dim]
    if not isinstance(indices_or_sections, (int, np.integer)):
        return list(_cut(x, [0, *(builtins.slice(i).indices(n)[1] for i in indices_or_sections), n], dim))
    if indices_or_sections < 1 or n % indices_or_sections:
        raise ValueError(f"an axis of {n} cannot be split into {indices_or_sections} equal parts")
    return list(_cut(x, range(0, n + 1, n // indices_or_sections), dim))


@overload
def split(tensor: TensorLike, split_size_or_sections: Ints, *, dim: int) -> tuple[Tensor, ...]: ...
@overload
def split(tensor: TensorLike, *, split_size_or_sections: Ints, dim: int = 0) -> tuple[Tensor, ...]: ...
@overload
def split(tensor: TensorLike, *, split_size: Ints, dim: int = 0) -> tuple[Tensor, ...]: ...
@overload
def split(ary: TensorLike, indices_or_sections: Ints, *, axis: int) -> list[Tensor]: ...
@overload
def split(ary: TensorLike, *, indices_or_sections: Ints, axis: int = 0) -> list[Tensor]: ...
@two_meanings(_numpy_split, lambda input, *sizes, **keywords: "torch" if "split_size" in keywords else None)
def split(
    tensor: TensorLike, split_size_or_sections: Ints | None = None, dim: int = 0, *, split_size: Ints | None = None
) -> tuple[Tensor, ...]:
    """Parts along an axis. With `dim`, as in PyTorch: of a size, the last may be smaller, or of the sizes of a list.

    With `axis`, as in NumPy: so many equal parts, or cut before each index of a list. Without either: TypeError. Each
    part is a `getitem`, whose backward function puts its gradient back in place.
    """
    x = as_tensor(tensor)
    dim = _axis(x, dim)
    n, sizes = x.shape[dim], split_size if split_size_or_sections is None else split_size_or_sections
    if sizes is None:
        raise TypeError("split: give a size or a list of sizes")
    if not isinstance(sizes, Sequence | np.ndarray):
        sizes = whole("split: the size of a part", sizes)
        if sizes < (1 if n else 0):
            raise ValueError(f"split: a part has {sizes} elements; expected at least 1")
        return _cut(x, [*range(0, n, sizes), n], dim) if n else (x,)
    if builtins.sum(sizes) != n or builtins.min(sizes, default=0) < 0:
        raise ValueError(f"split: the sizes {list(sizes)} do not add up to the axis, which has {n}")
    return _cut(x, [0, *itertools.accumulate(sizes)], dim)


@numpy_keywords(axis="dim")
def chunk(input: TensorLike, chunks: int, dim: int = 0, **numpy: Unpack[OneAxis]) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along an axis; the last may be smaller."""
    if chunks < 1:
        raise ValueError(f"chunk: {chunks} parts; expected at least 1")
    x = as_tensor(input)
    n = x.shape[_axis(x, dim)]
    return split(x, builtins.max(1, -(-n // chunks)), dim=dim) if n else split(x, [0] * chunks, dim=dim)


@numpy_keywords(axis="dim")
def unbind(input: TensorLike, dim: int = 0, **numpy: Unpack[OneAxis]) -> tuple[Tensor, ...]:
    """The slices along an axis, which they lack."""
    x = as_tensor(input)
    before = (builtins.slice(None),) * _axis(x, dim)
    return tuple(getitem(x, (*before, i)) for i in range(x.shape[dim]))


# ---- copy


@numpy_keywords(reps="dims")
def tile(input: TensorLike, *sizes: Ints, dims: Ints | None = None, **numpy: Unpack[Reps]) -> Tensor:
    """Copies of the whole beside each other: so many along each of the last axes, of which there may be new ones."""
    x = as_tensor(input)
    counts = one_tuple(sizes, dims, "dims")
    if builtins.min(counts, default=0) < 0:
        raise ValueError(f"tile: {counts} copies; a count cannot be negative")
    ndim = builtins.max(len(counts), x.ndim)
    counts, shape = (1,) * (ndim - len(counts)) + counts, (1,) * (ndim - x.ndim) + x.shape
    pairs = list(zip(counts, shape, strict=True))
    stretched = broadcast_to(reshape(x, [m for n in shape for m in (1, n)]), [m for pair in pairs for m in pair])
    out = reshape(stretched, [count * n for count, n in pairs])
    # PyTorch gives no view of x; reshape has copied if an axis longer than 1 was repeated
    return out if builtins.any(count > 1 and n > 1 for count, n in pairs) else clone(out)


def _numpy_repeat(a: TensorLike, repeats: TensorLike, axis: int | None = None) -> Tensor:
    return repeat_interleave(a, repeats, axis)


def _whose_repeat(input: TensorLike, *sizes: Ints, repeats: Ints | None = None) -> str | None:
    ndim, size = as_tensor(input).ndim, as_tensor(input).size
    counts = one_tuple(sizes, repeats, "repeats")
    if repeats is not None or len(sizes) == 1:  # NumPy takes one count, or one for each element
        numpy_takes = len(counts) in (1, size)
    else:  # (repeats, axis)
        numpy_takes = len(counts) == 2 and -ndim <= counts[1] < ndim
    return None if numpy_takes and len(counts) >= ndim else "torch"


@overload
def repeat(input: TensorLike, *sizes: Ints) -> Tensor: ...
@overload
def repeat(input: TensorLike, *, repeats: Ints) -> Tensor: ...
@overload
def repeat(a: TensorLike, repeats: TensorLike, *, axis: int | None) -> Tensor: ...
@two_meanings(_numpy_repeat, _whose_repeat)
def repeat(input: TensorLike, *sizes: Ints, repeats: Ints | None = None) -> Tensor:
    """PyTorch's repeat, `tile` with a count for every axis; with the keyword `axis` NumPy's, `repeat_interleave`."""
    x, counts = as_tensor(input), one_tuple(sizes, repeats, "repeats")
    if len(counts) < x.ndim:
        raise ValueError(f"repeat: {len(counts)} counts for {x.ndim} axes; give one for each, or say tile or axis=")
    return tile(x, counts)


@numpy_keywords(axis="dim")
def repeat_interleave(
    input: TensorLike,
    repeats: TensorLike,
    dim: int | None = None,
    *,
    output_size: int | None = None,
    **numpy: Unpack[AxisOrNone],
) -> Tensor:
    """Each element along `dim` repeated, by one count or by its own; without dim: of all elements in one row.

    output_size: the length of the result along dim, where it is known: ValueError if it is another.
    """
    x = as_tensor(input)
    if dim is None:
        x, dim = reshape(x, -1), 0
    dim = _axis(x, dim)
    counts = on_host(repeats.data if isinstance(repeats, Tensor) else np.asarray(repeats))
    if counts.dtype.kind == "f":
        raise TypeError(f"repeat_interleave: repeats are {counts.dtype}; expected integers")
    places = np.repeat(np.arange(x.shape[dim]), counts)  # ValueError for negative counts, or too many of them
    if output_size not in (None, len(places)):
        raise ValueError(f"repeat_interleave: output_size is {output_size}, but the counts make {len(places)}")
    return getitem(x, (builtins.slice(None),) * dim + (places,))


@overload
def roll(input: TensorLike, shifts: Ints, dims: Axes = None) -> Tensor: ...
@overload
def roll(input: TensorLike, shift: Ints, *, axis: Axes = None) -> Tensor: ...
@numpy_keywords(overloads=True, shift="shifts", axis="dims")
def roll(input: TensorLike, shifts: Ints, dims: Axes = None) -> Tensor:
    """Elements moved on by `shifts` along `dims`, from the end to the beginning; without dims: of all in one row."""
    x = source = as_tensor(input)
    shifts = shifts if np.ndim(shifts) else whole("roll: shifts", shifts)
    if dims is None:
        return reshape(roll(reshape(x, -1), builtins.sum(one_tuple((shifts,))), 0), x.shape)
    moves, axes = one_tuple((shifts,)), one_tuple((dims,))
    moves = moves * len(axes) if len(moves) == 1 else moves
    axes = axes * len(moves) if len(axes) == 1 else axes  # as in NumPy
    if len(moves) != len(axes):
        raise ValueError(f"roll: {len(moves)} shifts for {len(axes)} axes")
    for shift, dim in zip(moves, axes, strict=True):
        dim = np.lib.array_utils.normalize_axis_index(dim, builtins.max(x.ndim, 1))
        if x.size and x.ndim and shift % x.shape[dim]:
            cut = x.shape[dim] - shift % x.shape[dim]
            x = concatenate(_cut(x, [0, cut, x.shape[dim]], dim)[::-1], dim)
    return clone(x) if x is source else x  # as in PyTorch, no view


def flip(input: TensorLike, *axes: Axes, dims: Axes = None, axis: Axes = None) -> Tensor:
    """The order of elements reversed along `dims`, ints or a tuple; along all axes without them, as in NumPy."""
    x = as_tensor(input)
    named = dims if axis is None else axis
    chosen = range(x.ndim) if named is None and axes in ((), (None,)) else one_tuple(axes, named, "dims")
    chosen = np.lib.array_utils.normalize_axis_tuple(chosen, builtins.max(x.ndim, 1))
    reverse, forward = builtins.slice(None, None, -1), builtins.slice(None)
    return clone(getitem(x, tuple(reverse if i in chosen else forward for i in range(x.ndim))))  # NumPy's is a view


# ---- pad

_NumpyMode: TypeAlias = Literal["constant", "edge", "reflect", "symmetric", "wrap"]
_NUMPY_MODES: tuple[_NumpyMode, ...] = ("constant", "edge", "reflect", "symmetric", "wrap")
_PAD_MODES: dict[str, _NumpyMode] = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}  # PyTorch's: NumPy's


def _numpy_pad(array: TensorLike, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Tensor:
    x = as_tensor(array)
    if isinstance(pad_width, dict):
        raise TypeError("pad: pad_width is a dict; expected (before, after) for each axis, or one for all")
    if mode not in _NUMPY_MODES:
        raise ValueError(f"pad: mode is {mode!r}; with pad_width it may be {', '.join(_NUMPY_MODES)}")
    if np.ndim(constant_values):
        raise ValueError("pad: constant_values must be one number")
    pairs = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if builtins.min(itertools.chain(*pairs), default=0) < 0:
        raise ValueError(f"pad: pad_width is {pad_width}; widths cannot be negative")
    return _padded(x, pairs, mode, constant_values)


def _whose_pad(input: TensorLike, widths: Any, mode: str = "constant", value: float | None = None) -> str | None:
    if np.ndim(widths) != 1 or len(widths) == 1 or mode in ("edge", "symmetric", "wrap"):
        return "numpy"
    both_take = len(widths) == 2 and value is None and mode in ("constant", "reflect") and as_tensor(input).ndim > 1
    return None if both_take else "torch"


@overload
def pad(input: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor: ...
@overload
def pad(array: TensorLike, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Tensor: ...
@two_meanings(_numpy_pad, _whose_pad)
def pad(input: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added at both ends of axes. pad: (before, after) of the last axis, then of the one before it, and so on.

    mode: "constant" (value, or 0), "reflect", "replicate" or "circular"; negative widths cut elements off. NumPy's
    `pad_width` has a pair for each axis, in their order, or one for all. A pair by position for more than one axis
    raises TypeError.
    """
    x = as_tensor(input)
    if mode not in _PAD_MODES:
        raise ValueError(f"pad: mode is {mode!r}; with pad it may be {', '.join(_PAD_MODES)}")
    if not hasattr(pad, "__len__"):
        raise TypeError(f"pad: pad is {pad!r}; expected a list, (before, after) for each of the last axes")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad: {len(pad)} widths for {x.ndim} axes; give (before, after) for each of the last axes")
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if builtins.any(builtins.max(-a, 0) + builtins.max(-b, 0) > n for (a, b), n in zip(pairs, x.shape, strict=True)):
        raise ValueError(f"pad: the widths {list(pad)} cut off more than {x.shape} has")
    if mode != "constant" and value:
        raise ValueError(f"pad: value is {value}, which the mode {mode!r} does not use; leave it out")
    limit = {"reflect": -1, "circular": 0}.get(mode)  # how much wider than the axis a border may be
    widest = zip(map(builtins.max, pairs), x.shape, strict=True)
    if limit is not None and builtins.any(0 < width > n + limit for width, n in widest):
        raise ValueError(f"pad: {mode} takes borders of at most the axis{' less one' * -limit}; {x.shape} has less")
    return _padded(x, pairs, _PAD_MODES[mode], 0 if value is None else value)


def _padded(x: Tensor, pairs: Sequence[Sequence[int]], mode: _NumpyMode, value: float) -> Tensor:
    """x with (before, after) elements more along each axis; mode as of numpy.pad."""
    if mode != "edge" and builtins.any(width < 0 for pair in pairs for width in pair):
        kept = zip(pairs, x.shape, strict=True)
        x = getitem(
            x,
            tuple(builtins.slice(builtins.max(-a, 0), builtins.max(n - builtins.max(-b, 0), 0)) for (a, b), n in kept),
        )
    if x.dtype.kind != "f" and not float(value).is_integer():
        raise TypeError(f"pad: {x.dtype} cannot hold the value {value}; convert with .astype(...)")
    inside = x
    for axis, widths in enumerate(pairs):
        before, after = widths if mode == "edge" else [builtins.max(width, 0) for width in widths]
        n = x.shape[axis]
        if mode == "constant":
            sizes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (before, after)]
            ends = [Tensor(np.zeros(size, x.dtype, like=x.data) + x.dtype.type(value)) for size in sizes]
            x = concatenate([ends[0], x, ends[1]], axis) if before or after else x
        elif before or after:
            edge = np.arange(-before, n + after).clip(0, n - 1)  # np.pad takes no negative widths
            places = edge if mode == "edge" else np.pad(np.arange(n), (before, after), mode)
            x = getitem(x, (builtins.slice(None),) * axis + (places,))
    return clone(x) if x is inside else x  # as in PyTorch, no view
