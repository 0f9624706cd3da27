"""What the launchers of row-wise kernels share: checks of shapes, rows a block, and sums over all rows."""

import functools
import math

import numpy as np

from kernels.arrays import Array, Shape
from kernels.cuda.launch import STORAGE, Kernel, blocks, empty

_column_sums = Kernel("cuda/column_sums.cu", "column_sums")


def check_shapes(kernel: str, **expected: tuple[Array | None, Shape]) -> None:
    """ValueError unless each array has its shape: name=(array, shape). An array None is left out.

    A kernel trusts the shapes it is given: of a shorter array it would read what lies behind it.
    """
    for name, (array, shape) in expected.items():
        if array is not None and array.shape != tuple(shape):
            raise ValueError(f"{kernel}: {name} is {array.shape}, expected {tuple(shape)}")


def count_rows(x: Array) -> int:
    """N of x (..., C); also where C is 0."""
    return math.prod(x.shape[:-1])


def vec(dtype: np.dtype) -> int:
    """VEC in the sources: elements in 128 bits. TypeError for a dtype without kernels."""
    if dtype.name not in STORAGE:
        raise TypeError(f"no kernels for {dtype}; there are {', '.join(STORAGE)}")
    return 16 // dtype.itemsize


def threads(n: int, most: int) -> int:
    """Threads of a block for n items: a multiple of 32, at least 32, at most `most`."""
    return 32 * min(most // 32, max(1, blocks(n, 32)))


@functools.cache
def row_kernel(source: str, name: str, C: int, vec: int) -> tuple[Kernel, int]:
    """The kernel of a source that includes rows.cuh, for rows of C elements, `vec` to a group; and its threads.

    The block spans a row. A thread takes one group; from rows of 512 groups on, four of them, or however many it needs.
    """
    groups = blocks(C, vec)
    if groups <= 512:
        return Kernel(source, name), threads(groups, 512)
    items = 4
    while items * 256 < groups:
        items *= 2
    return Kernel(source, name, ITEMS=items), threads(blocks(groups, items), 256)


def rows_per_block(N: int) -> int:
    """How many rows a block sums into one row of partial sums. It depends on the shape alone, so that bits repeat.

    At least 32, so that the partial sums are few bytes; at most 1024 partial sums reach the second stage.
    """
    return max(32, blocks(N, 1024))


def column_sums(partials: Array, like: Array) -> list[Array]:
    """partials (1 or 2, P, C) -> one or two arrays (C,) of the dtype of `like`: the sums over P."""
    n, P, C = partials.shape
    outs = [empty(like, (C,)) for _ in range(n)]
    _column_sums.launch(
        (blocks(C, 32), n), (32, 16), outs[0], outs[1] if n == 2 else None, partials, P, C, dtype=like.dtype
    )
    return outs
