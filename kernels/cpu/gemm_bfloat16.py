"""Matrix products by instructions that multiply pairs of bfloat16 numbers: out = a @ b + bias, all float32.

`kernels.cpu.gemm` says how such a product goes. Here packing also rounds every number to bfloat16, and what is packed
are blocks of pairs: see `kernels.cpu.micro_kernel_bfloat16`. Sums are float32.

    for each STRETCH of the sums, and of b's columns, and of a's rows   what is packed of them fits the outer caches
      in parallel, for each panel, or step of all panels if that is read as it lies   round it to blocks of pairs
      in parallel, for some panels of a and some of b                   these stay in the thread's own cache
        for each panel of a, each panel of b
          out's PANEL x PANEL += one panel times the other
"""

import numpy as np
from numba import prange

from kernels.cpu.aligned_allocation import uninitialised
from kernels.cpu.blocking import copy_block, evenly, padded
from kernels.cpu.compile import jit
from kernels.cpu.gemm import TASKS
from kernels.cpu.micro_kernel_bfloat16 import (
    BLOCK,
    PANEL,
    SIDE,
    begin_tiles,
    end_tiles,
    pack_step,
    product,
)
from kernels.cpu.vector_ops import take

STRETCH, PACKED = 32, 1 << 20  # most steps of PANEL along the sums, and words of a factor, that are packed at a time
GROUP = 8  # panels of either factor that stay in a thread's own cache
FLOPS_PER_NANOSECOND = 150  # of one thread, roughly


@jit
def multiply(a, b, bias, add, out, tiles, workers):
    """As `kernels.cpu.gemm.multiply`, of factors that are rounded to bfloat16; tiles: of `tile_settings`.

    The order of a sum does not depend on the number of workers, but pairs of its products are added first.
    """
    shift = np.zeros(padded(out.shape[1], PANEL), out.dtype)  # whole panels
    shift[: bias.size] = bias
    _multiply(a, b, shift, add, out, tiles, workers)


@jit(parallel=True)
def _multiply(a, b, shift, add, out, tiles, workers):
    (M, N), (a, a_flipped), (b, b_flipped) = out.shape, a, b
    K = a.shape[0] if a_flipped else a.shape[1]
    rows, cols, depth = (M + PANEL - 1) // PANEL, (N + PANEL - 1) // PANEL, (K + PANEL - 1) // PANEL
    stretch = min(STRETCH, depth)
    size = stretch * 2 * BLOCK  # of a packed panel
    down, across = evenly(rows, max(1, PACKED // size)), evenly(cols, max(1, PACKED // size))
    a_packed, b_packed = uninitialised(down * size, out), uninitialised(across * size, out)
    for k in range(0, depth, stretch):
        steps = min(stretch, depth - k)
        for q in range(0, cols, across):
            for p in range(0, rows, down):
                a_panels, b_panels = min(down, rows - p), min(across, cols - q)
                a_parts = steps if a_flipped else a_panels
                b_parts = b_panels if b_flipped else steps
                if q > 0 and rows <= down:  # they are packed already
                    a_parts = 0
                if p > 0:
                    b_parts = 0
                taken = np.zeros(16, np.int64)
                for _ in prange(workers):
                    part = take(taken, 0)
                    while part < a_parts + b_parts:
                        if part < a_parts:
                            _pack_part(a, a_flipped, a_flipped, M, p, a_panels, K, k, steps, a_packed, part)
                        else:
                            part -= a_parts
                            _pack_part(b, not b_flipped, b_flipped, N, q, b_panels, K, k, steps, b_packed, part)
                        part = take(taken, 0)
                b_tasks = (b_panels + GROUP - 1) // GROUP
                group = max(1, min(GROUP, a_panels * b_tasks // TASKS))
                a_tasks = (a_panels + group - 1) // group
                for _ in prange(workers):
                    task = take(taken, 8)
                    while task < a_tasks * b_tasks:
                        m, n = task % a_tasks * group, task // a_tasks * GROUP
                        of_a, of_b = (m, min(a_panels, m + group), p), (n, min(b_panels, n + GROUP), q)
                        first = k == 0 and not add
                        _multiply_panels(a_packed, of_a, b_packed, of_b, steps, first, shift, out, tiles)
                        task = take(taken, 8)


@jit
def _multiply_panels(a, rows, b, cols, steps, first, shift, out, tiles):
    """Panels rows[0]..rows[1] of a times cols[0]..cols[1] of b: added to out, or to shift if first.

    rows[2] and cols[2]: which panel of the whole factor the first packed one is.
    """
    M, N = out.shape
    flat, spare, each = out.reshape(-1), np.empty(PANEL * PANEL, out.dtype), 2 * BLOCK
    begin_tiles(tiles)
    for p in range(rows[0], rows[1]):
        for q in range(cols[0], cols[1]):
            left, right, m, n = p * steps * each, q * steps * each, (rows[2] + p) * PANEL, (cols[2] + q) * PANEL
            start, at, step = (shift, n, 0) if first else (flat, m * N + n, N)
            if m + PANEL <= M and n + PANEL <= N:
                product(steps, a, left, b, right, start, at, step, flat, m * N + n, N)
                continue
            # at the edge: a whole tile beside out, of which a part is copied
            height, breadth = min(PANEL, M - m), min(PANEL, N - n)
            copy_block(start, at, step, height, breadth, spare, 0, PANEL, SIDE)
            product(steps, a, left, b, right, spare, 0, PANEL, spare, 0, PANEL)
            copy_block(spare, 0, PANEL, height, breadth, flat, m * N + n, N, SIDE)
    end_tiles()


@jit
def _pack_part(x, strided, turned, n, first, panels, K, k, steps, packed, part):
    """A part of some panels of x, from the panel `first` and the k-th step along the sum on; one that reads rows of x.

    strided: numbers along the sum are a row of x apart, else neighbours. So it is a step of every panel, or a panel.
    """
    for other in range(panels if strided else steps):
        panel, here = (other, part) if strided else (part, other)
        at = (panel * steps + here) * 2 * BLOCK
        place, across, along = (x.reshape(-1), 0, x.shape[1]), (first + panel) * PANEL, (k + here) * PANEL
        pack_step(place, strided, turned, n, across, K, along, packed, at)
