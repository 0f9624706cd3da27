"""What attention multiplies: one head's rows, as they are and transposed, and the products of blocks of them."""

import numpy as np

from kernels.cpu.compile import jit
from kernels.cpu.vectors import FEW_ROWS, VECTORS, copy, small_tile, transpose

ALL, LOWER_OUT, LOWER_A, UPPER_A = 0, 1, 2, 3  # which part of a product of blocks on the diagonal is not zero


def rows_of(x):
    """x (B, H, T, D) as its memory: a flat array, and the steps in it from one b, h, t to the next.

    For the compiled code an array that may have any strides is slow to read, and one that happens to be
    contiguous is another type. In this form every x is the same, and its rows are known to have no gaps. An x
    whose rows have gaps is copied.
    """
    if x.strides[-1] != x.itemsize or min(x.strides) < 0 or any(s % x.itemsize for s in x.strides):
        x = x.copy()
    steps = np.array(x.strides[:3]) // x.itemsize
    extent = x.shape[3] + int((np.array(x.shape[:3]) - 1) @ steps)
    return np.lib.stride_tricks.as_strided(x, (extent,), (x.itemsize,)), steps


@jit
def padded(n, multiple):
    """The first multiple that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@jit
def uninitialised(n, like):
    """n numbers of that array's dtype that begin a cache line."""
    x = np.empty(n + 64 // like.itemsize, like.dtype)
    first = (-x.ctypes.data % 64) // x.itemsize
    return x[first : first + n]


@jit
def aligned(n, like):
    """n numbers of that array's dtype, zero, that begin a cache line."""
    x = uninitialised(n, like)
    x[:] = 0
    return x


@jit
def _place(rows, b, h, t):
    """Where the row t of a head begins in its memory."""
    steps = rows[1]
    return b * steps[0] + h * steps[1] + t * steps[2]


@jit
def pack(rows, b, h, n, D, wide, length, lanes):
    """The n rows of a head in memory of their own, (length, wide), zeros where there are none."""
    flat, packed = rows[0], aligned(length * wide, rows[0])
    for t in range(n):
        start = _place(rows, b, h, t)
        for d in range(0, D, lanes):
            copy(flat, start + d, D - d, packed, t * wide + d, lanes)
    return packed


@jit
def pack_transposed(rows, b, h, n, D, length, lanes):
    """The n rows of a head as columns, (D, length), zeros where there are none."""
    flat, step, packed = rows[0], rows[1][2], aligned(length * D, rows[0])
    for t in range(0, n, lanes):
        start = _place(rows, b, h, t)
        for d in range(0, D, lanes):
            transpose(flat, start + d, step, n - t, D - d, packed, d * length + t, length)
    return packed


@jit
def unpack(packed, wide, rows, b, h, n, D, lanes):
    """The inverse of `pack`."""
    for t in range(n):
        start = _place(rows, b, h, t)
        for d in range(0, D, lanes):
            copy(packed, t * wide + d, lanes, rows[0], start + d, min(lanes, D - d))


@jit
def copy_block(source, at, step, rows, columns, target, to, target_step, lanes):
    """A block (rows, columns) of one flat array into another, given by their first number and their rows' distance."""
    for r in range(rows):
        for c in range(0, columns, lanes):
            n = min(lanes, columns - c)
            copy(source, at + r * step + c, n, target, to + r * target_step + c, n)


@jit
def turn(block, size, rows, lanes, turned):
    """turned (size, size) = block (rows, size) transposed."""
    for i in range(0, rows, lanes):
        for j in range(0, size, lanes):
            transpose(block, i * size + j, size, rows - i, lanes, turned, j * size + i, size)


@jit
def multiply_add(a, a_at, a_step, b, b_at, b_step, out, out_at, out_step, rows, depth, columns, part, lanes):
    """out (rows, columns) += a.T @ b, a (depth, rows), b (depth, columns); rows a multiple of FEW_ROWS.

    Blocks of flat arrays, given by their first number and the distance of their rows. part: on the diagonal of a causal
    product LOWER_OUT if only out's lower triangle is wanted, LOWER_A or UPPER_A if a.T is triangular; else ALL.
    """
    width = VECTORS * lanes
    for i in range(0, rows, FEW_ROWS):
        first, last, wide = 0, depth, columns
        if part == LOWER_OUT:
            wide = min(columns, i + FEW_ROWS)
        elif part == LOWER_A:
            last = min(depth, i + FEW_ROWS)
        elif part == UPPER_A:
            first = i
        if first >= last:  # nothing but zeros
            continue
        for j in range(0, wide, width):
            left, right, to = a_at + first * a_step + i, b_at + first * b_step + j, out_at + i * out_step + j
            small_tile(last - first, a, left, a_step, b, right, b_step, out, to, out_step, out, to, out_step)
