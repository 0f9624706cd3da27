"""Small dense tiles for attention: padded copies, and the product that does nearly all of the arithmetic.

Tiles are C-contiguous and padded with zeros to multiples of four rows, so the product needs no tail code.
Its indices are unsigned: a signed one may be negative, which Python counts from the end, and the check for
that keeps the compiler from making vector code (30 instead of 90 GFLOP/s on one core).
"""

import numpy as np

from kernels.cpu.compile import jit

_0, _1, _2, _3, _4, _15, _16 = (np.uint64(i) for i in (0, 1, 2, 3, 4, 15, 16))


@jit
def matmul_add(a, b, c, rows, inner, triangle):
    """c += a @ b over the first `rows` rows of a and c and `inner` rows of b; both multiples of four.

    triangle says which part of a square product of a causal diagonal tile can be nonzero, to skip the rest:
    0 all of it; 1 only c's lower triangle is wanted; 2 a is lower, 3 a is upper triangular.
    """
    columns = np.uint64(c.shape[1])
    rows, inner = np.uint64(rows), np.uint64(inner)
    for m in range(_0, rows, _4):
        m1, m2, m3 = m + _1, m + _2, m + _3
        first, last, width = _0, inner, columns
        if triangle == 1:
            width = min(columns, (m + _4 + _15) // _16 * _16)  # whole vectors
        elif triangle == 2:
            last = min(inner, m + _4)
        elif triangle == 3:
            first = m
        for k in range(first, last, _4):
            k1, k2, k3 = k + _1, k + _2, k + _3
            # a 4 x 4 block of a in registers: 16 multiply-adds for every 8 loads and 4 stores
            a00, a01, a02, a03 = a[m, k], a[m, k1], a[m, k2], a[m, k3]
            a10, a11, a12, a13 = a[m1, k], a[m1, k1], a[m1, k2], a[m1, k3]
            a20, a21, a22, a23 = a[m2, k], a[m2, k1], a[m2, k2], a[m2, k3]
            a30, a31, a32, a33 = a[m3, k], a[m3, k1], a[m3, k2], a[m3, k3]
            for n in range(width):
                b0, b1, b2, b3 = b[k, n], b[k1, n], b[k2, n], b[k3, n]
                c[m, n] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
                c[m1, n] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
                c[m2, n] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
                c[m3, n] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3


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
def pack(rows, b, h, T, D, size, width):
    """One head's rows -> tiles (n, size, width): tile i holds rows i * size ..., padded with zeros."""
    flat, step = rows
    tiles = np.zeros(((T + size - 1) // size, size, width), flat.dtype)
    for t in range(T):
        start = b * step[0] + h * step[1] + t * step[2]
        source, target = flat[start : start + D], tiles[t // size, t % size]
        for d in range(D):
            target[d] = source[d]
    return tiles


@jit
def pack_transposed(rows, b, h, T, D, size, width):
    """Like `pack`, each tile transposed -> tiles (n, width, size)."""
    flat, step = rows
    tiles = np.zeros(((T + size - 1) // size, width, size), flat.dtype)
    for t in range(T):
        start = b * step[0] + h * step[1] + t * step[2]
        source, target = flat[start : start + D], tiles[t // size]
        for d in range(D):
            target[d, t % size] = source[d]
    return tiles


@jit
def unpack(tiles, rows, b, h, T, D):
    """The inverse of `pack`: copy tiles (n, size, width) into one head's rows."""
    flat, step = rows
    size = tiles.shape[1]
    for t in range(T):
        start = b * step[0] + h * step[1] + t * step[2]
        source, target = tiles[t // size, t % size], flat[start : start + D]
        for d in range(D):
            target[d] = source[d]
