"""Matrix products in blocks that fit the caches: out = a @ b + bias.

After Goto and van de Geijn (2008, "Anatomy of high-performance matrix multiplication"), with the terms of BLIS (Van Zee
and van de Geijn 2015). Both operands are packed: copied into panels of MR rows of a or NR columns of b, in which the
numbers lie in the order in which the micro-kernel reads them. The micro-kernel (`kernels.cpu.micro_kernel`) multiplies
one panel by another; the macro-kernel does so for some panels of a and some of b. KC is how many numbers of each sum a
panel holds. BLIS's NC and MC, how much of the two operands is packed at a time, depend here on the shapes.

The smaller operand is packed first, and all threads share it. Of the larger one each thread packs a group of panels
when it needs them, so they never leave the thread's own cache. While it multiplies, the group that it will pack next is
prefetched: the short rows of a panel would be slow to wait for. Where b's rows are short and a has few panels, packing
b costs more than it gains, and the micro-kernel reads b in place.

    for each block of the sums and of the shared operand       packed, it fits the outer cache
      in parallel, for each part of it                         pack it
      in parallel, for each task                               a group of the other operand's panels, some shared ones
        for each chunk of the block, at most KC of the sums
          pack the group
          macro-kernel: for each panel of a                    it stays in the first-level cache
            for each panel of b
              micro-kernel: MR x NR of out += one panel times the other
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from kernels.arrays import CACHE_LINE
from kernels.cpu.aligned_allocation import aligned_empty
from kernels.cpu.blocking import balanced_block, copy_block, round_up
from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel import (
    MR,
    MR_SMALL,
    MR_TINY,
    NR_VECTORS,
    Starts,
    Strides,
    micro_kernel,
    small_micro_kernel,
    tiny_micro_kernel,
)
from kernels.cpu.vector_copies import Block, copy_columns, fetch_add, transpose

KC = 384  # most numbers of a sum in a panel: a float32 panel of a of that depth stays in the first-level cache
SHARED_DEPTH = 3 * KC  # numbers of a sum for which the shared operand is packed at a time; more if it has few panels
SHARED_SIZE = 1 << 20  # most numbers of the shared operand that are packed at a time, KC x NC in BLIS
IN_PLACE_SIZE = 1 << 19  # numbers of a b that is read in place; all threads finish with these before any goes on
IN_PLACE_ROW_BYTES = 2048  # most bytes of such a b's row: a page holds two rows
IN_PLACE_M = 1024  # most rows of a for such a b
GROUP_MIN, GROUP_MAX = 2, 4  # panels in a group, MC / MR in BLIS: rows of fewer panels are not worth prefetching
TASKS_PER_THREAD = 8  # if there is enough work: other threads take over the tasks of one that was held up
FLOPS_PER_NANOSECOND = 60  # of one thread, roughly
_PART_ROWS = 64  # rows of an operand that a thread packs at a time, where they cross all panels
_PACKED_ROWS = 8  # of these the rows that are packed into one panel before the next panel


class Operand(NamedTuple):
    """b or the transpose of a, (K, n), which is cut into panels of `width` columns."""

    array: Any  # (K, n), or (n, K) if transposed; C-contiguous
    transposed: bool
    n: int
    width: int  # MR for a, NR for b


class PanelRange(NamedTuple):
    """Consecutive panels of an operand, numbered as in the whole operand."""

    first: int
    end: int  # the number of the last panel, plus 1


class Panels(NamedTuple):
    """Consecutive panels in memory, packed or in place."""

    array: Any  # (n,)
    start: int  # index of the first panel's first number
    range: Any  # PanelRange


class Region(NamedTuple):
    """The part of an operand that a group of panels is packed from."""

    block: Any  # Block
    rows: int
    columns: int


@jit
def multiply(a, b, bias, add, out, lanes, workers):
    """out (M, N) = a (M, K) @ b (K, N) + bias; if add, out + a @ b.

    a, b: (a C-contiguous array, whether its transpose is meant). bias (N,), or (0,) for none. M, N, K are not 0. A sum
    over k is formed in the order of k, whatever the number of workers.
    """
    (M, N), NR = out.shape, NR_VECTORS * lanes
    bias_row = np.zeros(round_up(N, NR), out.dtype)  # complete panels
    bias_row[: bias.size] = bias
    of_a, of_b = (a[0], not a[1], M, MR), (b[0], b[1], N, NR)  # as in Operand
    in_place = _reads_in_place(b, M, NR)
    own_is_a = in_place or M >= N
    first, second = (of_a, of_b) if own_is_a else (of_b, of_a)  # one may be read-only: named tuples would not unify
    own = Operand(first[0], first[1], first[2], first[3])
    shared = Operand(second[0], second[1], second[2], second[3])
    if in_place:
        _multiply_in_place(own, b[0], bias_row, add, out, lanes, workers)
    else:
        _multiply_packed(own, shared, own_is_a, bias_row, add, out, lanes, workers)


@jit
def _reads_in_place(b, M, NR):
    """Whether b is read in place by M rows of a: it is cut into complete panels, whose rows begin cache lines."""
    (x, transposed), columns = b, b[0].shape[1]
    short = M <= IN_PLACE_M and columns * x.itemsize <= IN_PLACE_ROW_BYTES and columns % NR == 0
    return short and not transposed and x.ctypes.data % CACHE_LINE == 0


@jit(parallel=True)
def _multiply_packed(own, shared, own_is_a, bias_row, add, out, lanes, workers):
    """own: the operand of which each thread packs its own panels; shared: the one that is packed for all."""
    K, own_panels, shared_panels = _depth(shared), _panels(own), _panels(shared)
    transposed, width, NR = shared.transposed, shared.width, NR_VECTORS * lanes
    block_depth = min(K, max(SHARED_DEPTH, SHARED_SIZE // (shared_panels * width) // KC * KC))
    block_panels = min(shared_panels, max(1, SHARED_SIZE // (block_depth * width)))
    packed = aligned_empty(block_depth * block_panels * width, out)  # the micro-kernel loads complete cache lines
    for k0 in range(0, K, block_depth):
        depth = min(block_depth, K - k0)
        chunk = balanced_block(depth, KC, _PART_ROWS)
        for first in range(0, shared_panels, block_panels):
            panels = min(block_panels, shared_panels - first)
            parts = panels if transposed else (depth + _PART_ROWS - 1) // _PART_ROWS
            splits, group, tasks = _share_out(own_panels, panels, workers)
            counters = np.zeros(16, np.int64)  # of parts and of tasks, in two cache lines
            for _ in prange(workers):
                part = fetch_add(counters, 0)
                while part < parts:
                    _pack_part(shared, first, panels, k0, depth, chunk, lanes, packed, part)
                    part = fetch_add(counters, 0)
            for _ in prange(workers):
                group_packed = aligned_empty(group * own.width * KC, out)
                task, k = fetch_add(counters, 8), 0
                while task < tasks:
                    own_range, shared_range = _ranges(task, splits, group, own_panels, panels)
                    length = min(chunk, depth - k)
                    _pack(own, own_range, k0 + k, length, lanes, group_packed, 0, own.width * length)
                    a_panels, from_bias = Panels(group_packed, 0, own_range), k0 + k == 0 and not add
                    shared_start = (k * panels + shared_range.first * length) * width
                    numbered = PanelRange(first + shared_range.first, first + shared_range.end)
                    b_panels = Panels(packed, shared_start, numbered)
                    if not own_is_a:
                        a_panels, b_panels = b_panels, a_panels
                    k += length
                    if k == depth:
                        task, k = fetch_add(counters, 8), 0
                    next_range = _ranges(min(task, tasks - 1), splits, group, own_panels, panels)[0]
                    next_region = _region(own, next_range, k0 + k, min(chunk, depth - k))
                    _macro_kernel(
                        a_panels, b_panels, NR * length, NR, length, lanes, from_bias, bias_row, out, next_region
                    )


@jit(parallel=True)
def _multiply_in_place(own, b, bias_row, add, out, lanes, workers):
    """`_multiply_packed` for a b (K, N) that is read in place: own is a, and b's panels are columns of b."""
    (K, N), NR, flat_b = b.shape, NR_VECTORS * lanes, b.reshape(-1)
    own_panels, panels = _panels(own), N // NR
    block_depth = max(2 * KC, IN_PLACE_SIZE // N // KC * KC)
    splits, group, tasks = _share_out(own_panels, panels, workers)
    for k0 in range(0, K, block_depth):
        depth = min(block_depth, K - k0)
        chunk = balanced_block(depth, KC)
        counter = np.zeros(1, np.int64)
        for _ in prange(workers):
            group_packed = aligned_empty(group * MR * KC, out)
            task, k = fetch_add(counter, 0), 0
            while task < tasks:
                a_range, b_range = _ranges(task, splits, group, own_panels, panels)
                length = min(chunk, depth - k)
                _pack(own, a_range, k0 + k, length, lanes, group_packed, 0, MR * length)
                a_panels, from_bias = Panels(group_packed, 0, a_range), k0 + k == 0 and not add
                b_panels = Panels(flat_b, (k0 + k) * N + b_range.first * NR, b_range)
                k += length
                if k == depth:
                    task, k = fetch_add(counter, 0), 0
                next_range = _ranges(min(task, tasks - 1), splits, group, own_panels, panels)[0]
                next_region = _region(own, next_range, k0 + k, min(chunk, depth - k))
                _macro_kernel(a_panels, b_panels, NR, N, length, lanes, from_bias, bias_row, out, next_region)


@jit
def _share_out(own_panels, panels, workers):
    """(how many parts the shared panels are split into, panels in a group of the other operand, number of tasks)."""
    splits = min(panels, (TASKS_PER_THREAD * workers + own_panels - 1) // own_panels)
    group = max(GROUP_MIN, min(GROUP_MAX, own_panels * splits // (TASKS_PER_THREAD * workers)))
    return splits, group, (own_panels + group - 1) // group * splits


@jit
def _ranges(task, splits, group, own_panels, panels):
    """The panels that a task multiplies: PanelRange of the threads' own operand, PanelRange of the shared one."""
    p, q = task // splits * group, task % splits
    return PanelRange(p, min(own_panels, p + group)), PanelRange(q * panels // splits, (q + 1) * panels // splits)


@jit
def _depth(operand):
    """K, how many numbers a sum has."""
    return operand.array.shape[1] if operand.transposed else operand.array.shape[0]


@jit
def _panels(operand):
    """How many panels an operand has."""
    return (operand.n + operand.width - 1) // operand.width


@jit
def _region(operand, panels, k0, depth):
    """The Region that `_pack` reads for these panels, from the k-th row k0 on."""
    x, stride = operand.array, operand.array.shape[1]
    first, end = panels.first * operand.width, min(operand.n, panels.end * operand.width)
    if operand.transposed:
        return Region(Block(x.reshape(-1), first * stride + k0, stride), end - first, depth)
    return Region(Block(x.reshape(-1), k0 * stride + first, stride), depth, end - first)


@jit
def _macro_kernel(
    a_panels, b_panels, b_panel_stride, b_row_stride, depth, lanes, from_bias, bias_row, out, next_region
):
    """Panels of a times panels of b over `depth` numbers of each sum: added to out, or to bias_row if from_bias.

    a_panels, b_panels: Panels. b's panels lie b_panel_stride numbers apart, a panel's rows b_row_stride. next_region is
    the Region to pack next, which is prefetched; the present one again if there is no next.
    """
    (M, N), NR = out.shape, NR_VECTORS * lanes
    flat_out, edge_tile = out.reshape(-1), np.empty(MR * NR, out.dtype)
    a, a_first, (p0, p1) = a_panels
    b, b_first, (q0, q1) = b_panels
    (x, x_start, x_stride), x_rows, x_columns = next_region
    initial, initial_stride = (bias_row, 0) if from_bias else (flat_out, N)
    strides, edge_strides = Strides(MR, b_row_stride, initial_stride, N), Strides(MR, b_row_stride, NR, NR)
    line = CACHE_LINE // x.itemsize
    lines = (x_columns + 2 * line - 2) // line  # of a row of the region, wherever in a cache line it begins
    # A micro-kernel prefetches some rows of the region. The last ones do: before it is packed, the first ones'
    # prefetches would be displaced from the cache.
    rows_each = max(1, depth // lines)
    row = x_rows - rows_each * (p1 - p0) * (q1 - q0)
    for p in range(p0, p1):
        for q in range(q0, q1):
            next_start, next_stride, next_lines = x_start, 0, 1
            if row > -rows_each:
                next_start, next_stride, next_lines = x_start + max(0, row) * x_stride, x_stride, lines
            row += rows_each
            a_start, b_start = a_first + (p - p0) * depth * MR, b_first + (q - q0) * b_panel_stride
            m, n = p * MR, q * NR
            out_start = m * N + n
            initial_start = n if from_bias else out_start
            if m + MR <= M and n + NR <= N:
                starts = Starts(a_start, b_start, initial_start, out_start)
                micro_kernel(
                    depth, a, b, initial, flat_out, starts, strides, x, next_start, next_stride, next_lines
                )  # fmt: skip
                continue
            # At out's edge the smallest micro-kernel that has enough rows writes edge_tile, a part of which is copied.
            rows, columns, starts = min(MR, M - m), min(NR, N - n), Starts(a_start, b_start, 0, 0)
            initial_block = Block(initial, initial_start, initial_stride)
            copy_block(initial_block, rows, columns, Block(edge_tile, 0, NR), lanes)
            if rows <= MR_TINY:
                tiny_micro_kernel(depth, a, b, edge_tile, edge_tile, starts, edge_strides)
            elif rows <= MR_SMALL:
                small_micro_kernel(depth, a, b, edge_tile, edge_tile, starts, edge_strides)
            else:
                micro_kernel(
                    depth, a, b, edge_tile, edge_tile, starts, edge_strides, x, next_start, next_stride, next_lines
                )  # fmt: skip
            copy_block(Block(edge_tile, 0, NR), rows, columns, Block(flat_out, out_start, N), lanes)


@jit
def _pack_part(operand, first, panels, k0, depth, chunk, lanes, packed, part):
    """Pack a part of `panels` panels from the panel `first` on: one panel if transposed, else rows that cross them all.

    All panels' first `chunk` numbers of each sum come first, panel after panel, then the next `chunk` numbers.
    """
    width = operand.width
    begin, end, step, which = (
        part * _PART_ROWS,
        min(depth, (part + 1) * _PART_ROWS),
        _PART_ROWS,
        PanelRange(first, first + panels),
    )
    if operand.transposed:
        begin, end, step, which = 0, depth, chunk, PanelRange(first + part, first + part + 1)
    for k in range(begin, end, step):
        chunk_start = k // chunk * chunk
        panel_stride = min(chunk, depth - chunk_start) * width
        start = chunk_start * panels * width + (which.first - first) * panel_stride + (k - chunk_start) * width
        _pack(operand, which, k0 + k, min(step, depth - k), lanes, packed, start, panel_stride)


@jit
def _pack(operand, panels, k0, depth, lanes, packed, start, panel_stride):
    """Pack a PanelRange of an operand (K, n), the rows k0..k0 + depth.

    Column i goes to column i % width of panel i // width; the last panel is filled up with zeros. The first panel
    begins at packed[start], each other one panel_stride numbers after the one before.
    """
    x, transposed, n, width = operand
    flat, stride = x.reshape(-1), x.shape[1]
    if not transposed:
        for first in range(0, depth, _PACKED_ROWS):
            for p in range(panels.first, panels.end):
                to = start + (p - panels.first) * panel_stride + first * width
                at = (k0 + first) * stride + p * width
                rows = min(_PACKED_ROWS, depth - first)
                for i in range(0, width, lanes):
                    source, target = Block(flat, at + i, stride), Block(packed, to + i, width)
                    copy_columns(source, rows, n - p * width - i, target, min(lanes, width - i))
        return
    for p in range(panels.first, panels.end):
        to = start + (p - panels.first) * panel_stride
        for i in range(0, width, lanes):
            rows, at = n - p * width - i, (p * width + i) * stride + k0
            for k in range(0, depth, lanes):
                source, target = Block(flat, at + k, stride), Block(packed, to + k * width + i, width)
                transpose(source, rows, depth - k, target, width - i)
