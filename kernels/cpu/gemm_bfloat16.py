"""Matrix products of float32 numbers that are rounded to bfloat16: out = a @ b + bias, with float32 sums.

`kernels.cpu.gemm` explains the blocks and the terms. Here packing also rounds every number to bfloat16, and panels
consist of tiles of pairs: see `kernels.cpu.micro_kernel_bfloat16`.

    for each KC of the sums, and of b's columns, and of a's rows    packed, they fit the outer caches
      in parallel, for each panel, or each step of all panels if rows cross the panels     pack it
      in parallel, for each task                                    some panels of a and of b: the thread's own cache
        macro-kernel: for each panel of a, each panel of b
          micro-kernel: MR x NR of out += one panel times the other
"""

import numpy as np
from numba import prange

from kernels.cpu.aligned_allocation import aligned_empty
from kernels.cpu.blocking import balanced_block, copy_block, round_up
from kernels.cpu.compile import jit
from kernels.cpu.gemm import TASKS_PER_THREAD, PanelRange
from kernels.cpu.micro_kernel import Starts
from kernels.cpu.micro_kernel_bfloat16 import (
    MR,
    NR,
    STEP,
    STEP_PAIRS,
    TILE,
    configure_tiles,
    micro_kernel,
    pack_step,
    release_tiles,
)
from kernels.cpu.vector_copies import Block, fetch_add

KC_STEPS = 32  # most steps of STEP numbers along the sums that are packed at a time
PACKED_PAIRS = 1 << 20  # most pairs of an operand that are packed at a time
GROUP = 8  # most panels of either operand in a task; they stay in the thread's own cache
FLOPS_PER_NANOSECOND = 150  # of one thread, roughly


@jit
def multiply(a, b, bias, add, out, config, workers):
    """`kernels.cpu.gemm.multiply` for operands that are rounded to bfloat16. config: of `tile_config`.

    The order of a sum does not depend on the number of workers, but products are added in pairs first.
    """
    bias_row = np.zeros(round_up(out.shape[1], NR), out.dtype)  # complete panels
    bias_row[: bias.size] = bias
    _multiply(a, b, bias_row, add, out, config, workers)


@jit(parallel=True)
def _multiply(a, b, bias_row, add, out, config, workers):
    (M, N), (a, a_transposed), (b, b_transposed) = out.shape, a, b
    K = a.shape[0] if a_transposed else a.shape[1]
    a_all, b_all, steps_all = (M + MR - 1) // MR, (N + NR - 1) // NR, (K + STEP - 1) // STEP
    block_steps = min(KC_STEPS, steps_all)
    size = block_steps * STEP_PAIRS  # of a packed panel
    a_block = balanced_block(a_all, max(1, PACKED_PAIRS // size))
    b_block = balanced_block(b_all, max(1, PACKED_PAIRS // size))
    a_packed, b_packed = aligned_empty(a_block * size, out), aligned_empty(b_block * size, out)
    for k in range(0, steps_all, block_steps):
        steps = min(block_steps, steps_all - k)
        for q in range(0, b_all, b_block):
            for p in range(0, a_all, a_block):
                a_panels, b_panels = min(a_block, a_all - p), min(b_block, b_all - q)
                a_parts = steps if a_transposed else a_panels
                b_parts = b_panels if b_transposed else steps
                if q > 0 and a_all <= a_block:  # they are packed already
                    a_parts = 0
                if p > 0:
                    b_parts = 0
                counters = np.zeros(16, np.int64)  # of parts and of tasks, in two cache lines
                for _ in prange(workers):
                    part = fetch_add(counters, 0)
                    while part < a_parts + b_parts:
                        if part < a_parts:
                            _pack_part(a, a_transposed, a_transposed, M, p, a_panels, K, k, steps, a_packed, part)
                        else:
                            part -= a_parts
                            _pack_part(b, not b_transposed, b_transposed, N, q, b_panels, K, k, steps, b_packed, part)
                        part = fetch_add(counters, 0)
                b_tasks = (b_panels + GROUP - 1) // GROUP
                group = max(1, min(GROUP, a_panels * b_tasks // TASKS_PER_THREAD))
                a_tasks = (a_panels + group - 1) // group
                for _ in prange(workers):
                    task = fetch_add(counters, 8)
                    while task < a_tasks * b_tasks:
                        m, n = task % a_tasks * group, task // a_tasks * GROUP
                        a_range = PanelRange(m, min(a_panels, m + group))
                        b_range = PanelRange(n, min(b_panels, n + GROUP))
                        from_bias = k == 0 and not add
                        packed, first = (a_packed, b_packed), (p, q)
                        _macro_kernel(packed, a_range, b_range, first, steps, from_bias, bias_row, out, config)
                        task = fetch_add(counters, 8)


@jit
def _macro_kernel(packed, a_range, b_range, first, steps, from_bias, bias_row, out, config):
    """Panels of a times panels of b: added to out, or to bias_row if from_bias.

    packed: the packed panels of a, and of b. a_range, b_range: PanelRange in these. first: which panel of the whole
    operand the first packed one is, of a and of b.
    """
    (M, N), (a, b), (first_p, first_q) = out.shape, packed, first
    flat_out, edge_tile, size = out.reshape(-1), np.empty(MR * NR, out.dtype), steps * STEP_PAIRS
    initial, initial_stride = (bias_row, 0) if from_bias else (flat_out, N)
    configure_tiles(config)
    for p in range(a_range.first, a_range.end):
        for q in range(b_range.first, b_range.end):
            m, n = (first_p + p) * MR, (first_q + q) * NR
            out_start = m * N + n
            initial_start = n if from_bias else out_start
            if m + MR <= M and n + NR <= N:
                starts = Starts(p * size, q * size, initial_start, out_start)
                micro_kernel(steps, a, b, initial, flat_out, starts, initial_stride, N)
                continue
            # At out's edge the micro-kernel writes edge_tile, a part of which is copied.
            rows, columns, edge = min(MR, M - m), min(NR, N - n), Block(edge_tile, 0, NR)
            copy_block(Block(initial, initial_start, initial_stride), rows, columns, edge, TILE)
            micro_kernel(steps, a, b, edge_tile, edge_tile, Starts(p * size, q * size, 0, 0), NR, NR)
            copy_block(edge, rows, columns, Block(flat_out, out_start, N), TILE)
    release_tiles()


@jit
def _pack_part(x, strided, transposed, n, first, panels, K, k, steps, packed, part):
    """Pack a part of `panels` panels of x, from the panel `first` and the k-th step along the sum on.

    strided: the numbers of a sum are a row of x apart, and a part is a step of every panel; else they are neighbours,
    and a part is a panel. So a part reads whole rows of x.
    """
    for other in range(panels if strided else steps):
        panel, step = (other, part) if strided else (part, other)
        start = (panel * steps + step) * STEP_PAIRS
        source, across, along = Block(x.reshape(-1), 0, x.shape[1]), (first + panel) * MR, (k + step) * STEP
        pack_step(source, strided, transposed, n, across, K, along, packed, start)
