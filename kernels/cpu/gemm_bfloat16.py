"""Matrix products by instructions that multiply pairs of bfloat16 numbers: out = a @ b + bias, all float32.

`kernels.cpu.gemm` says how such a product goes. Here packing also rounds every number to bfloat16, and what is packed
are blocks of pairs: see `kernels.cpu.pairs`. Sums are float32.

    for each stretch of the sums, of a's rows, and of b's columns      what is packed of them fits the outer caches
      in parallel, for each panel                                      round it to blocks of pairs
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

STRETCH, PANELS = 32, 128  # most blocks along the sums, and panels of a factor, that are packed at a time
KC, GROUP = 8, 8  # blocks along the sums, and panels of either factor, that stay in a thread's own cache
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
                a_panels = min(PANELS, rows - p) if q == 0 else 0  # else they are packed already
                b_panels = min(PANELS, cols - q)
                taken = np.zeros(16, np.int64)
                for _ in prange(workers):
                    part = take(taken, 0)
                    while part < a_panels + b_panels:
                        if part < a_panels:
                            _pack(a, a_flipped, a_flipped, M, p + part, K, k, blocks, a_packed, part)
                        else:
                            part -= a_panels
                            _pack(b, not b_flipped, b_flipped, N, q + part, K, k, blocks, b_packed, part)
                        part = take(taken, 0)
                a_panels = min(PANELS, rows - p)
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
def _pack(x, strided, turned, n, panel, K, k, blocks, packed, to):
    """A panel of x as the to-th packed one, in blocks of pairs, from the k-th block along the sum on.

    n: rows of the factor, or columns of b. strided: numbers along the sum are a row of x apart, else neighbours.
    turned: that yields columns where a block's rows are wanted, or rows for columns.
    """
    flat, step = x.reshape(-1), x.shape[1]
    for block in range(blocks):
        along = (k + block) * PANEL
        for half in range(2):
            across = panel * PANEL + half * SIDE
            at = along * step + across if strided else across * step + along
            target = ((to * blocks + block) * 2 + half) * BLOCK
            for row in range(SIDE):
                if strided:
                    low, more = at + 2 * row * step, K - along - 2 * row
                    here, there = n - across if more > 0 else 0, n - across if more > 1 else 0
                    round_columns(flat, low, here, low + step, there, packed, target + row * SIDE)
                else:
                    low, more = at + row * step, K - along if across + row < n else 0
                    round_row(flat, low, more, low + SIDE, more - SIDE, packed, target + row * SIDE)
            if turned:
                transpose(packed, target, SIDE, SIDE, SIDE, packed, target, SIDE)
