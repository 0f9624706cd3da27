"""What attention multiplies: blocks of a head's rows, as they are and transposed, and the products of such blocks.

A block's numbers lie together. Rows of a whole head's transpose would for many T lie a power of two of bytes apart,
and then fall into few sets of the first-level cache.
"""

import numpy as np

from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel import FEW_ROWS, VECTORS, small_tile, small_tile_by_rows
from kernels.cpu.vector_ops import copy, transpose

BLOCK = 64  # rows of a block of queries or of keys; a multiple of a tile's sides
ALL, LOWER_OUT, UPPER_OUT, LOWER_A, UPPER_A = range(5)  # which part of a product of blocks on the diagonal is not zero


def rows_of(x):
    """x (B, H, T, D) as its first row, and the steps in memory from one b, h, t to the next.

    For the compiled code an array that may have any strides is slow to read, and one that happens to be
    contiguous is another type. In this form every x is the same, and its rows are known to have no gaps: what lies
    behind the first one is reached from there. An x whose rows have gaps is copied.
    """
    if x.size == 0:
        return x.reshape(-1), np.zeros(3, np.int64)
    (b, h, t, d), size = x.strides, x.itemsize
    if d != size or min(b, h, t) < 0 or (b | h | t) % size:
        return rows_of(x.copy())
    return x[0, 0, 0], np.array((b // size, h // size, t // size))


@jit
def _place(rows, b, h, t):
    """(the memory, where the row t of a head begins in it, the step from there to the next row)."""
    memory, steps = rows
    return memory, b * steps[0] + h * steps[1] + t * steps[2], steps[2]


@jit
def pack(rows, b, h, t, n, D, wide, packed, at, lanes):
    """Rows t..t + n of a head as a block of `packed` (BLOCK, wide), from the number `at` on; zeros are added."""
    if n < BLOCK or D < wide:
        _clear(packed, at, BLOCK * wide)
    memory, start, step = _place(rows, b, h, t)
    for d in range(0, D, lanes):
        copy(memory, start + d, step, min(n, BLOCK), D - d, packed, at + d, wide, lanes)


@jit
def pack_transposed(rows, b, h, t, n, D, packed, at, lanes):
    """Rows t..t + n of a head as the columns of a block of `packed` (D, BLOCK), likewise."""
    if n < BLOCK:
        _clear(packed, at, BLOCK * D)
    memory, start, step = _place(rows, b, h, t)
    for r in range(0, min(n, BLOCK), lanes):
        for d in range(0, D, lanes):
            transpose(memory, start + r * step + d, step, n - r, D - d, packed, at + d * BLOCK + r, BLOCK, n - r)


@jit
def unpack(packed, at, wide, rows, b, h, t, n, D, lanes):
    """The inverse of `pack`."""
    memory, start, step = _place(rows, b, h, t)
    for d in range(0, D, lanes):
        copy(packed, at + d, wide, min(n, BLOCK), lanes, memory, start + d, step, min(lanes, D - d))


@jit
def unpack_transposed(packed, at, rows, b, h, t, n, D, lanes):
    """The inverse of `pack_transposed`."""
    memory, start, step = _place(rows, b, h, t)
    for r in range(0, min(n, BLOCK), lanes):
        for d in range(0, D, lanes):
            transpose(packed, at + d * BLOCK + r, BLOCK, D - d, n - r, memory, start + r * step + d, step, D - d)


@jit
def _clear(x, at, n):
    for i in range(at, at + n):
        x[i] = 0


@jit
def turn(block, lanes, turned):
    """turned = block transposed, both (BLOCK, BLOCK)."""
    for i in range(0, BLOCK, lanes):
        for j in range(0, BLOCK, lanes):
            transpose(block, i * BLOCK + j, BLOCK, BLOCK, lanes, turned, j * BLOCK + i, BLOCK, lanes)


@jit
def multiply_add(a, by_columns, b, out, shape, part, lanes):
    """out (rows, columns) += a (rows, depth) @ b (depth, columns). shape: rows, a multiple of FEW_ROWS, depth, columns.

    a, b, out: (a flat array, where the block begins in it, the distance of its rows, or of a's columns if by_columns).
    part: on the diagonal of a causal product LOWER_OUT or UPPER_OUT if only that triangle of out is wanted, LOWER_A or
    UPPER_A if a is triangular.
    """
    (a, a_at, a_step), (b, b_at, b_step), (out, out_at, out_step) = a, b, out
    (rows, depth, columns), width = shape, VECTORS * lanes
    for i in range(0, rows, FEW_ROWS):
        first, last, left_edge, wide = 0, depth, 0, columns
        if part == LOWER_OUT:
            wide = min(columns, i + FEW_ROWS)
        elif part == UPPER_OUT:
            left_edge = i // width * width
        elif part == LOWER_A:
            last = min(depth, i + FEW_ROWS)
        elif part == UPPER_A:
            first = i
        n = last - first
        if n <= 0:  # nothing but zeros
            continue
        left = a_at + (first * a_step + i if by_columns else i * a_step + first)
        for j in range(left_edge, wide, width):
            right, to = b_at + first * b_step + j, out_at + i * out_step + j
            if by_columns:
                small_tile(n, a, left, a_step, b, right, b_step, out, to, out_step, out, to, out_step)
            else:
                small_tile_by_rows(n, a, left, a_step, b, right, b_step, out, to, out_step, out, to, out_step)
