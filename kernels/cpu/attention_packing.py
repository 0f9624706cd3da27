"""Blocks of a head's rows, packed for attention's matrix products, and the products of such blocks.

A block's numbers are contiguous. Rows of a whole head's transpose would for many T lie a power of two of bytes apart,
and then share few sets of the first-level cache.
"""

from typing import NamedTuple

import numpy as np

from kernels.arrays import Array
from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel import (
    MR_SMALL,
    NR_VECTORS,
    Starts,
    Strides,
    small_micro_kernel,
    small_micro_kernel_by_rows,
)
from kernels.cpu.vector_copies import Block, copy_columns, transpose

BLOCK_ROWS = 64  # rows of a block of queries or of keys; a multiple of the micro-kernels' MR and NR
# Which part of a product on the diagonal of a causal mask is not zero: a triangle of out, or of a.
ALL, LOWER_OUT, UPPER_OUT, LOWER_A, UPPER_A = range(5)


class Rows(NamedTuple):
    """n rows of one head, from row t on; of an array that `base_and_strides` returned."""

    b: int
    h: int
    t: int
    n: int
    D: int  # numbers of a row


def base_and_strides(x: Array) -> tuple[Array, Array]:
    """x (B, H, T, D) -> x's first row, and the strides of b, h and t in numbers.

    To compiled code an array of any strides is slow to read, and a contiguous one is another type. In this form every x
    has one type, and its rows are known to be contiguous; other numbers are addressed relative to the first row. An x
    whose rows are not contiguous is copied.
    """
    if x.size == 0:
        return x.reshape(-1), np.zeros(3, np.int64)
    (b, h, t, d), size = x.strides, x.itemsize
    if d != size or min(b, h, t) < 0 or (b | h | t) % size:
        return base_and_strides(x.copy())
    return x[0, 0, 0], np.array((b // size, h // size, t // size))


@jit
def _block(x, rows):
    """The Block of an x of `base_and_strides` that is Rows."""
    base, strides = x
    return Block(base, rows.b * strides[0] + rows.h * strides[1] + rows.t * strides[2], strides[2])


@jit
def pack(x, rows, width, packed, start, lanes):
    """Rows of x as a block of `packed` (BLOCK_ROWS, width), from packed[start] on, filled up with zeros."""
    if rows.n < BLOCK_ROWS or rows.D < width:
        _clear(packed, start, BLOCK_ROWS * width)
    source = _block(x, rows)
    for d in range(0, rows.D, lanes):
        columns = Block(source.array, source.start + d, source.stride)
        copy_columns(columns, min(rows.n, BLOCK_ROWS), rows.D - d, Block(packed, start + d, width), lanes)


@jit
def pack_transposed(x, rows, packed, start, lanes):
    """Rows of x as the columns of a block of `packed` (D, BLOCK_ROWS), from packed[start] on, filled up with zeros."""
    n, D = rows.n, rows.D
    if n < BLOCK_ROWS:
        _clear(packed, start, BLOCK_ROWS * D)
    source = _block(x, rows)
    for r in range(0, min(n, BLOCK_ROWS), lanes):
        for d in range(0, D, lanes):
            square = Block(source.array, source.start + r * source.stride + d, source.stride)
            transpose(square, n - r, D - d, Block(packed, start + d * BLOCK_ROWS + r, BLOCK_ROWS), n - r)


@jit
def unpack(packed, start, width, x, rows, lanes):
    """The inverse of `pack`."""
    target = _block(x, rows)
    for d in range(0, rows.D, lanes):
        columns = Block(target.array, target.start + d, target.stride)
        copy_columns(Block(packed, start + d, width), min(rows.n, BLOCK_ROWS), lanes, columns, min(lanes, rows.D - d))


@jit
def unpack_transposed(packed, start, x, rows, lanes):
    """The inverse of `pack_transposed`."""
    n, D, target = rows.n, rows.D, _block(x, rows)
    for r in range(0, min(n, BLOCK_ROWS), lanes):
        for d in range(0, D, lanes):
            square = Block(target.array, target.start + r * target.stride + d, target.stride)
            transpose(Block(packed, start + d * BLOCK_ROWS + r, BLOCK_ROWS), D - d, n - r, square, D - d)


@jit
def _clear(x, start, n):
    for i in range(start, start + n):
        x[i] = 0


@jit
def transpose_block(block, lanes, transposed):
    """transposed = block.T, both (BLOCK_ROWS, BLOCK_ROWS)."""
    for i in range(0, BLOCK_ROWS, lanes):
        for j in range(0, BLOCK_ROWS, lanes):
            target = Block(transposed, j * BLOCK_ROWS + i, BLOCK_ROWS)
            transpose(Block(block, i * BLOCK_ROWS + j, BLOCK_ROWS), BLOCK_ROWS, lanes, target, lanes)


@jit
def multiply_add(a, a_by_columns, b, out, shape, part, lanes):
    """out (rows, columns) += a (rows, depth) @ b (depth, columns); all are `Block`.

    a_by_columns: a's columns are contiguous, and its stride is their distance. shape: rows, a multiple of MR_SMALL,
    depth, columns. part: on the diagonal of a causal product LOWER_OUT or UPPER_OUT if only that triangle of out is
    needed, LOWER_A or UPPER_A if a is triangular.
    """
    (rows, depth, columns), NR = shape, NR_VECTORS * lanes
    strides = Strides(a.stride, b.stride, out.stride, out.stride)
    for i in range(0, rows, MR_SMALL):
        first_k, end_k, first_column, end_column = 0, depth, 0, columns
        if part == LOWER_OUT:
            end_column = min(columns, i + MR_SMALL)
        elif part == UPPER_OUT:
            first_column = i // NR * NR
        elif part == LOWER_A:
            end_k = min(depth, i + MR_SMALL)
        elif part == UPPER_A:
            first_k = i
        n = end_k - first_k
        if n <= 0:  # nothing but zeros
            continue
        a_start = a.start + (first_k * a.stride + i if a_by_columns else i * a.stride + first_k)
        for j in range(first_column, end_column, NR):
            out_start = out.start + i * out.stride + j
            starts = Starts(a_start, b.start + first_k * b.stride + j, out_start, out_start)
            if a_by_columns:
                small_micro_kernel(n, a.array, b.array, out.array, out.array, starts, strides)
            else:
                small_micro_kernel_by_rows(n, a.array, b.array, out.array, out.array, starts, strides)
