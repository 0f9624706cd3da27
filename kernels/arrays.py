"""Arrays: NumPy's on the host, CuPy's or the simulator's on a device.

A device's arrays take part in NumPy's functions and operators by NEP 13 and 18, so `np.exp(x)` runs where x is. New
arrays are made on x's device by `np.zeros(shape, like=x)`, and `np.asarray(host, like=x)` copies one there. An
operation on both kinds raises.
"""

import math
from typing import TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

Array: TypeAlias = np.ndarray  # for type hints; an array of a device is taken by the same functions
Shape: TypeAlias = tuple[int, ...]

CACHE_LINE = 64  # bytes, of a CPU
_PADDING, _MALLOC_HEADER = 1024, 16  # 1/1024 of a large array's bytes is padding; bytes that malloc adds to them


def is_array(x: object) -> TypeGuard[Array]:
    """Whether x is an array, on whichever device; not so for NumPy's scalars and for Tensors."""
    return type(x) is np.ndarray or hasattr(x, "__array_function__")


def as_array(x: Array | np.generic) -> Array:
    """x, or a 0-d array in place of the scalar that NumPy makes of a 0-d result."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def on_host(x: Array) -> Array:
    """x as a NumPy array; from a device that is a copy, for which the host waits."""
    return x.get() if hasattr(x, "get") else x


def row_scale(x: Array) -> Array:
    """What to divide each row of x (..., C) by before its numbers are squared -> (..., 1).

    1, or the row's largest magnitude where squares would overflow or vanish.
    """
    largest = np.abs(x).max(axis=-1, keepdims=True)
    low, high = (2.0**-50, 2.0**50) if x.dtype.itemsize <= 4 else (2.0**-400, 2.0**400)
    extreme = (largest < low) & (largest > 0) | (largest > high) & (largest < np.inf)
    return np.where(extreme, largest, largest.dtype.type(1))


def empty(shape: Shape, dtype: npt.DTypeLike, like: Array | None = None) -> Array:
    """`np.empty`, beginning at a cache line, so that no vector load or store crosses one.

    The array is on `like`'s device, where every array is aligned.
    """
    if like is not None and type(like) is not np.ndarray:
        return np.empty(shape, dtype, like=like)
    dtype, n = np.dtype(dtype), math.prod(shape)
    # A large array's padding is a fraction of its size. Then smaller arrays of the same total size fit into its memory
    # once it is freed; with a fixed padding the last one would not, and the process would grow.
    padding = max(CACHE_LINE, n * dtype.itemsize // _PADDING - _MALLOC_HEADER)
    memory = np.empty(n + padding // dtype.itemsize, dtype)
    address = memory.__array_interface__["data"][0]
    first = -address % CACHE_LINE // dtype.itemsize
    return memory[first : first + n].reshape(shape)


_SUM_BLOCK = 128  # elements that are added one after another, as in NumPy's pairwise sum
_SUM_VECTOR = 4096  # elements of sums that are formed side by side: they stay in the first-level cache


def accurate_sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """`x.sum(axis, keepdims=keepdims)` in x's floating dtype, whose error grows with log n along every axis.

    axis: None for all, an int, or a tuple. NumPy adds pairwise along the axis whose elements lie closest in memory, and
    one by one along the others: the sum of a million float32 rows was 1 % off. Here these are cut into blocks. The
    order is fixed by shape and strides; up to 128 elements it is NumPy's. float16 is summed in float32, as in PyTorch.
    """
    if x.size <= _SUM_BLOCK and x.itemsize > 2:
        return x.sum(axis=axis, keepdims=keepdims)
    if type(x) is not np.ndarray or x.dtype.kind != "f":  # a device adds pairwise, and integers are exact
        return x.sum(axis=axis, keepdims=keepdims)
    if x.dtype.itemsize < 4:
        return accurate_sum(x.astype(np.float32), axis, keepdims).astype(x.dtype)
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    count = math.prod([x.shape[i] for i in axes])
    if count <= _SUM_BLOCK or (count == x.size and x.flags.c_contiguous):
        return x.sum(axis=axis, keepdims=keepdims)
    summed = sorted([i % x.ndim for i in axes])
    if summed[-1] == len(summed) - 1 and x.flags.c_contiguous:  # the first axes; they become one
        sums = _sum_along(x.reshape(count, *x.shape[len(summed) :]), 0)
    else:
        sums = x
        for i in reversed(summed):
            sums = _sum_along(sums, i)
    return sums.reshape([1 if i in summed else n for i, n in enumerate(x.shape)]) if keepdims else sums


def _sum_along(x: Array, i: int) -> Array:
    """The sum along axis i >= 0."""
    while x.shape[i] > _SUM_BLOCK and not _is_fastest(x, i):
        x = _sums_of_blocks(x, i)
    return x.sum(axis=i)


def _sums_of_blocks(x: Array, i: int) -> Array:
    """Sums of at most _SUM_BLOCK + 1 elements along axis i, each of which takes every m-th: an array of fewer along i.

    m neighbours are added as one vector, which is faster than to add one after the other where x's rows are short.
    """
    before, n, after = x.shape[:i], x.shape[i], x.shape[i + 1 :]
    m = max(1, min(n // _SUM_BLOCK, _SUM_VECTOR // max(1, math.prod(after))))
    groups = -(-n // (_SUM_BLOCK * m))
    length = n // (groups * m)
    rest = n - groups * length * m  # fewer than there are sums
    index = (slice(None),) * i
    blocks = (x[*index, : n - rest] if rest else x).reshape(*before, groups, length, m, *after)  # a view
    sums = blocks.sum(axis=i + 1).reshape(*before, groups * m, *after)
    if rest:
        sums[*index, :rest] += x[*index, n - rest :]
    return sums


def _is_fastest(x: Array, i: int) -> bool:
    """Whether the elements along axis i lie closest in memory: NumPy's inner loop runs there, and adds pairwise."""
    step = abs(x.strides[i])
    return 0 < step <= min([abs(s) for s, n in zip(x.strides, x.shape, strict=True) if n > 1])
