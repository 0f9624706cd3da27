"""Matrix products in blocks that fit the caches: out = a @ b + bias.

After Goto and van de Geijn (2008, "Anatomy of high-performance matrix multiplication"). Both factors are copied into
panels, of ROWS rows of a and `width` columns of b, in which the numbers lie in the order in which they are needed. The
innermost loop multiplies one panel by another: each step of it takes a column of one and a row of the other and adds
their outer product to sums that never leave the registers, so a number that was loaded is used ROWS or `width` times.

    for each long stretch of the sums         its packed panels fit the outer cache
      in parallel, for each panel             pack it
      in parallel, for each block of out      of some panels of a and some of b
        for each KC of the stretch            the panels of a stay in the thread's own cache
          for each panel of b                 stays in the first-level cache
            for each panel of a
              tile: out's ROWS x width += one panel times the other
"""

import numpy as np
from numba import get_num_threads, prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.tiles import copy_block, uninitialised
from kernels.cpu.vectors import ROWS, VECTORS, columns, copy, lanes, take, tile, transpose

KC = 256  # along the sums: a panel of b of that length stays in the first-level cache
PACKED = 1 << 20  # numbers of a factor that are packed at a time
GROUP = 8  # most panels of either factor that a task multiplies
_STRIP, _AT_ONCE = 64, 8  # rows of a transposed factor that a part packs, and that it packs into one panel at a time
TASKS = 24  # least, where there are panels enough: a thread that was held up leaves more of them to the others
_FLOPS_PER_NANOSECOND = 60  # of one thread, roughly


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,), or added to out. a, b C-contiguous, or transposed views of such.

    K must not be 0. A sum over k is formed in the order of k, whatever the number of threads.
    """
    a_flipped, b_flipped = not a.flags.c_contiguous, not b.flags.c_contiguous
    nanoseconds = 2 * a.size * out.shape[1] / _FLOPS_PER_NANOSECOND
    a, b = a.T if a_flipped else a, b.T if b_flipped else b
    shift = np.zeros(-(-out.shape[1] // columns(out.dtype)) * columns(out.dtype), out.dtype)  # whole panels
    if bias is not None:
        shift[: bias.size] = bias
    launch(_multiply, nanoseconds, a, a_flipped, b, b_flipped, shift, add, out, lanes(out.dtype), get_num_threads())
    return out


@jit(parallel=True)
def _multiply(a, a_flipped, b, b_flipped, shift, add, out, lanes, workers):
    M, N = out.shape
    K = a.shape[0] if a_flipped else a.shape[1]
    width = VECTORS * lanes
    a_panels, b_panels = (M + ROWS - 1) // ROWS, (N + width - 1) // width
    long = max(1, PACKED // (max(M, N) * KC)) * KC
    a_packed = uninitialised(min(K, long) * a_panels * ROWS, out)
    b_packed = uninitialised(min(K, long) * b_panels * width, out)  # of which a tile loads whole cache lines
    b_group = min(GROUP, b_panels)
    b_tasks = (b_panels + b_group - 1) // b_group
    a_group = max(1, min(GROUP, a_panels * b_tasks // TASKS))
    a_tasks = (a_panels + a_group - 1) // a_group
    for k0 in range(0, K, long):
        depth = min(long, K - k0)
        a_parts, b_parts = _parts(a_flipped, a_panels, depth), _parts(not b_flipped, b_panels, depth)
        taken = np.zeros(16, np.int64)
        for _ in prange(workers):
            part = take(taken, 0)
            while part < a_parts + b_parts:
                if part < a_parts:
                    _pack(a, a_flipped, M, k0, depth, ROWS, lanes, a_packed, part)
                else:
                    _pack(b, not b_flipped, N, k0, depth, width, lanes, b_packed, part - a_parts)
                part = take(taken, 0)
        for _ in prange(workers):
            task = take(taken, 8)
            while task < a_tasks * b_tasks:
                p, q = task % a_tasks * a_group, task // a_tasks * b_group
                rows, cols = (p, min(a_panels, p + a_group), a_panels), (q, min(b_panels, q + b_group), b_panels)
                for k in range(0, depth, KC):
                    first = k0 + k == 0 and not add
                    _multiply_panels(a_packed, rows, b_packed, cols, k, min(KC, depth - k), lanes, first, shift, out)
                task = take(taken, 8)


@jit
def _multiply_panels(a, rows, b, cols, k0, depth, lanes, first, shift, out):
    """Panels rows[0]..rows[1] times panels cols[0]..cols[1], from k0 on: added to out, or to shift if first.

    rows[2] and cols[2]: how many panels are packed.
    """
    M, N = out.shape
    width = VECTORS * lanes
    flat, spare = out.reshape(-1), np.empty(ROWS * width, out.dtype)
    for q in range(cols[0], cols[1]):
        for p in range(rows[0], rows[1]):
            left, right = (k0 * rows[2] + p * depth) * ROWS, (k0 * cols[2] + q * depth) * width
            m, n = p * ROWS, q * width
            begin, at, step = (shift, n, 0) if first else (flat, m * N + n, N)
            if m + ROWS <= M and n + width <= N:
                tile(depth, a, left, ROWS, b, right, width, begin, at, step, flat, m * N + n, N)
                continue
            # at the edge: a whole tile beside out, of which a part is copied
            height, breadth = min(ROWS, M - m), min(width, N - n)
            copy_block(begin, at, step, height, breadth, spare, 0, width, lanes)
            tile(depth, a, left, ROWS, b, right, width, spare, 0, width, spare, 0, width)
            copy_block(spare, 0, width, height, breadth, flat, m * N + n, N, lanes)


@jit
def _parts(flipped, panels, depth):
    """In how many parts a factor is packed: each reads some rows, whether these are the panels' or cross them all."""
    return (depth + _STRIP - 1) // _STRIP if flipped else panels


@jit
def _pack(x, flipped, n, k0, depth, width, lanes, packed, part):
    """One of the parts in which the n rows of x are packed, or the columns if flipped; from the k-th number k0 on.

    Row i becomes column i % width of panel i // width; what is missing in the last one is zero. The panels' first KC
    numbers along k come first, panel after panel, then the next.
    """
    flat, step, panels = x.reshape(-1), x.shape[1], (n + width - 1) // width
    if flipped:
        for first in range(part * _STRIP, min(depth, (part + 1) * _STRIP), _AT_ONCE):
            start = first // KC * KC
            short = min(KC, depth - start)
            for p in range(panels):
                for k in range(first, min(depth, first + _AT_ONCE)):
                    at, row = (start * panels + p * short + k - start) * width, (k0 + k) * step + p * width
                    for i in range(0, width, lanes):
                        copy(flat, row + i, n - p * width - i, packed, at + i, min(lanes, width - i))
        return
    seen = min(width, n - part * width)
    for start in range(0, depth, KC):
        short = min(KC, depth - start)
        at = (start * panels + part * short) * width
        if seen < width:
            packed[at : at + short * width] = 0
        for i in range(0, seen, lanes):
            for k in range(0, short, lanes):
                here = (part * width + i) * step + k0 + start + k
                transpose(flat, here, step, seen - i, short - k, packed, at + k * width + i, width)
