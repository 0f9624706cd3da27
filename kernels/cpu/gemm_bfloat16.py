"""Matrix products by instructions that multiply pairs of bfloat16 numbers: out = a @ b + bias, all float32.

`kernels.cpu.gemm` says how such a product goes. Here packing also rounds every number to bfloat16, and what is packed
are blocks of pairs: see `kernels.cpu.pairs`. Sums are float32.

    for each stretch of the sums, of a's rows, and of b's columns      what is packed of them fits the outer caches
      in parallel, for each panel, or row of blocks if that is read    round it to blocks of pairs
      in parallel, for each tile of out, some panels of a by some of b
        for each KC of the stretch, each panel of b, each panel of a
          out's PANEL x PANEL += one panel times the other
"""

import numpy as np
from numba import get_num_threads, prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.gemm import TASKS
from kernels.cpu.pairs import (
    BLOCK,
    PANEL,
    SIDE,
    TILES,
    begin_tiles,
    end_tiles,
    product,
    round_columns,
    round_row,
)
from kernels.cpu.tiles import copy_block, uninitialised
from kernels.cpu.vectors import take, transpose

STRETCH, PANELS = 32, 64  # most blocks along the sums, and panels of a factor, that are packed at a time
KC, GROUP = 16, 8  # blocks along the sums, and panels of either factor, that stay in a thread's own cache
_FLOPS_PER_NANOSECOND = 150  # of one thread, roughly


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,), or added to out. a, b C-contiguous, or transposed views of such.

    K must not be 0. The factors are rounded to bfloat16. The order of a sum does not depend on the number of threads.
    """
    a_flipped, b_flipped = not a.flags.c_contiguous, not b.flags.c_contiguous
    nanoseconds = 2 * a.size * out.shape[1] / _FLOPS_PER_NANOSECOND
    a, b = a.T if a_flipped else a, b.T if b_flipped else b
    shift = np.zeros(-(-out.shape[1] // PANEL) * PANEL, out.dtype)  # whole panels
    if bias is not None:
        shift[: bias.size] = bias
    launch(_multiply, nanoseconds, a, a_flipped, b, b_flipped, shift, add, out, TILES, get_num_threads())
    return out


@jit(parallel=True)
def _multiply(a, a_flipped, b, b_flipped, shift, add, out, tiles, workers):
    M, N = out.shape
    K = a.shape[0] if a_flipped else a.shape[1]
    rows, cols, depth = (M + PANEL - 1) // PANEL, (N + PANEL - 1) // PANEL, (K + PANEL - 1) // PANEL
    size = min(STRETCH, depth) * 2 * BLOCK  # of a packed panel
    a_packed, b_packed = uninitialised(min(PANELS, rows) * size, out), uninitialised(min(PANELS, cols) * size, out)
    for k in range(0, depth, STRETCH):
        blocks = min(STRETCH, depth - k)
        for p in range(0, rows, PANELS):
            for q in range(0, cols, PANELS):
                a_panels, b_panels = min(PANELS, rows - p), min(PANELS, cols - q)
                a_parts = 0 if q > 0 else blocks if a_flipped else a_panels  # else they are packed already
                parts = a_parts + (b_panels if b_flipped else blocks)
                taken = np.zeros(16, np.int64)
                for _ in prange(workers):
                    part = take(taken, 0)
                    while part < parts:
                        if part < a_parts:
                            _pack_part(a, a_flipped, a_flipped, M, p, a_panels, K, k, blocks, a_packed, part)
                        else:
                            part -= a_parts
                            _pack_part(b, not b_flipped, b_flipped, N, q, b_panels, K, k, blocks, b_packed, part)
                        part = take(taken, 0)
                b_tasks = (b_panels + GROUP - 1) // GROUP
                group = max(1, min(GROUP, a_panels * b_tasks // TASKS))
                a_tasks = (a_panels + group - 1) // group
                for _ in prange(workers):
                    task = take(taken, 8)
                    while task < a_tasks * b_tasks:
                        m, n = task % a_tasks * group, task // a_tasks * GROUP
                        across, along = (m, min(a_panels, m + group), p), (n, min(b_panels, n + GROUP), q)
                        first = k == 0 and not add
                        _multiply_panels(a_packed, across, b_packed, along, blocks, first, shift, out, tiles)
                        task = take(taken, 8)


@jit
def _multiply_panels(a, rows, b, cols, blocks, first, shift, out, tiles):
    """Panels rows[0]..rows[1] of a times cols[0]..cols[1] of b: added to out, or to shift if first.

    rows[2] and cols[2]: which panel of the whole factor the first packed one is.
    """
    M, N = out.shape
    flat, spare, each = out.reshape(-1), np.empty(PANEL * PANEL, out.dtype), 2 * BLOCK
    begin_tiles(tiles)
    for k in range(0, blocks, KC):
        depth, begin = min(KC, blocks - k), first and k == 0
        for q in range(cols[0], cols[1]):
            for p in range(rows[0], rows[1]):
                left, right = (p * blocks + k) * each, (q * blocks + k) * each
                m, n = (rows[2] + p) * PANEL, (cols[2] + q) * PANEL
                start, at, step = (shift, n, 0) if begin else (flat, m * N + n, N)
                if m + PANEL <= M and n + PANEL <= N:
                    product(depth, a, left, b, right, start, at, step, flat, m * N + n, N)
                    continue
                # at the edge: a whole tile beside out, of which a part is copied
                height, breadth = min(PANEL, M - m), min(PANEL, N - n)
                copy_block(start, at, step, height, breadth, spare, 0, PANEL, SIDE)
                product(depth, a, left, b, right, spare, 0, PANEL, spare, 0, PANEL)
                copy_block(spare, 0, PANEL, height, breadth, flat, m * N + n, N, SIDE)
    end_tiles()


@jit
def _pack_part(x, strided, turned, n, first, panels, K, k, blocks, packed, part):
    """A part of some panels of x, from the panel `first` and the k-th block along the sum on; one that reads rows of x.

    strided: numbers along the sum are a row of x apart, else neighbours. So it is a block of every panel, or a panel.
    """
    for other in range(panels if strided else blocks):
        panel, block = (other, part) if strided else (part, other)
        at = (panel * blocks + block) * 2 * BLOCK
        _pack_block(x, strided, turned, n, (first + panel) * PANEL, K, (k + block) * PANEL, packed, at)


@jit
def _pack_block(x, strided, turned, n, across, K, along, packed, at):
    """A panel's two blocks of pairs, from the number `across` of x's n rows or columns and `along` of the K summed on.

    turned: that yields columns where a block's rows are wanted, or rows for columns.
    """
    flat, step = x.reshape(-1), x.shape[1]
    for half in range(2):
        here, target = across + half * SIDE, at + half * BLOCK
        for row in range(SIDE):
            if strided:
                low, more = (along + 2 * row) * step + here, K - along - 2 * row
                count, after = n - here if more > 0 else 0, n - here if more > 1 else 0
                round_columns(flat, low, count, low + step, after, packed, target + row * SIDE)
            else:
                low, more = (here + row) * step + along, K - along if here + row < n else 0
                round_row(flat, low, more, low + SIDE, more - SIDE, packed, target + row * SIDE)
        if turned:
            transpose(packed, target, SIDE, SIDE, SIDE, packed, target, SIDE)
