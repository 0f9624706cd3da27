"""Matrix products in blocks that fit the caches: out = a @ b + bias.

After Goto and van de Geijn (2008, "Anatomy of high-performance matrix multiplication"). Both factors are copied into
panels, of ROWS rows of a and `width` columns of b, in which the numbers lie in the order in which they are needed. The
innermost loop multiplies one panel by another: each step of it takes a column of one and a row of the other and adds
their outer product to sums that never leave the registers, so a number that was loaded is used ROWS or `width` times.

    for each stretch of the sums and of b's columns   b's packed panels fit the outer cache
      in parallel, for each panel of b                pack it; pack a too, if its rows cross its panels
      in parallel, for each block of out              some panels of a, and all or some of b's
        for each chunk of the stretch, at most KC
          pack these panels of a, if not done         they stay in the thread's own cache
          for each panel of a                         stays in the first-level cache
            for each panel of b
              tile: out's ROWS x width += one panel times the other
"""

import numpy as np
from numba import get_num_threads, prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.tiles import copy_block, evenly, uninitialised
from kernels.cpu.vectors import ROWS, VECTORS, columns, copy, lanes, take, tile, transpose

KC = 256  # most of the sums at a time: a panel of a of that length stays in the first-level cache
STRETCH = 4 * KC  # of the sums, that is packed at a time
PACKED = 1 << 20  # numbers of a factor, likewise
GROUP = 4  # most panels of a that a task multiplies; and the least, where they were packed before
_STRIP, _AT_ONCE = 64, 8  # rows of a transposed factor that a part packs, and that it packs into one panel at a time
TASKS = 8  # of a thread, if there is enough to do: one that was held up leaves more of them to the others
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
    stretch, least = min(K, STRETCH), GROUP if a_flipped else 1
    across = min(b_panels, max(1, PACKED // (stretch * width)))  # panels of b that are packed at a time
    down = min(a_panels, max(1, PACKED // (stretch * ROWS))) if a_flipped else a_panels
    b_packed = uninitialised(stretch * across * width, out)  # of which a tile loads whole cache lines
    a_shared = uninitialised(stretch * down * ROWS if a_flipped else 0, out)
    for k0 in range(0, K, stretch):
        depth = min(stretch, K - k0)
        chunk, strips = evenly(depth, KC, _STRIP), (depth + _STRIP - 1) // _STRIP
        for q0 in range(0, b_panels, across):
            for p0 in range(0, a_panels, down):
                b_here, a_here = min(across, b_panels - q0), min(down, a_panels - p0)
                b_parts = 0 if p0 > 0 else b_here if b_flipped else strips  # else they are packed already
                parts = b_parts + (strips if a_flipped else 0)
                b_tasks = min(b_here, (TASKS * workers * least + a_here - 1) // a_here)
                group = max(least, min(GROUP, a_here * b_tasks // (TASKS * workers)))
                tasks = (a_here + group - 1) // group * b_tasks
                taken = np.zeros(16, np.int64)
                for _ in prange(workers):
                    part = take(taken, 0)
                    while part < parts:
                        if part < b_parts:
                            _pack_part(b, b_flipped, N, q0, b_here, k0, depth, chunk, width, lanes, b_packed, part)
                        else:
                            _pack_part(a, False, M, p0, a_here, k0, depth, chunk, ROWS, lanes, a_shared, part - b_parts)
                        part = take(taken, 0)
                for _ in prange(workers):
                    a_packed = a_shared if a_flipped else uninitialised(group * ROWS * KC, out)
                    task = take(taken, 8)
                    while task < tasks:
                        p, q = task // b_tasks * group, task % b_tasks
                        rows = p0, p0 + p, p0 + min(a_here, p + group), a_here
                        cols = q0, q0 + q * b_here // b_tasks, q0 + (q + 1) * b_here // b_tasks, b_here
                        for k in range(0, depth, chunk):
                            along = k0, k, min(chunk, depth - k)
                            _multiply_block(a, a_flipped, a_packed, rows, b_packed, cols, along, lanes, add, shift, out)
                        task = take(taken, 8)


@jit
def _multiply_block(a, a_flipped, a_packed, rows, b_packed, cols, along, lanes, add, shift, out):
    """Panels rows[1]..rows[2] of a times cols[1]..cols[2] of b, for along[2] numbers from the k-th of a stretch on.

    rows, cols: the first panel that is packed, the block's first and its end, and how many are packed.
    along: where the stretch begins, k, and how many numbers.
    """
    width, (k0, k, depth) = VECTORS * lanes, along
    a_at, b_at = (k * rows[3] + (rows[1] - rows[0]) * depth) * ROWS, (k * cols[3] + (cols[1] - cols[0]) * depth) * width
    if not a_flipped:
        a_at = 0
        _pack(a, False, len(out), rows[1:3], k0 + k, depth, ROWS, lanes, a_packed, 0, ROWS * depth)
    first = k0 + k == 0 and not add
    _multiply_panels(a_packed, a_at, rows[1:3], b_packed, b_at, cols[1:3], depth, lanes, first, shift, out)


@jit
def _multiply_panels(a, a_at, rows, b, b_at, cols, depth, lanes, first, shift, out):
    """Panels rows[0]..rows[1] of a times cols[0]..cols[1] of b: added to out, or to shift if first.

    Where the first panel of each begins in what is packed, from where on depth numbers of each follow: a_at, b_at.
    """
    M, N = out.shape
    width = VECTORS * lanes
    flat, spare = out.reshape(-1), np.empty(ROWS * width, out.dtype)
    for p in range(rows[0], rows[1]):
        for q in range(cols[0], cols[1]):
            left, right = a_at + (p - rows[0]) * depth * ROWS, b_at + (q - cols[0]) * depth * width
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
def _pack_part(x, by_panel, n, first, panels, k0, depth, chunk, width, lanes, packed, part):
    """A part of some panels of x from the panel `first` on: one of them if by_panel, else rows that cross them all.

    The panels' first chunk of numbers along the sums comes first, panel after panel, then the next.
    """
    begin, end, step, which = part * _STRIP, min(depth, (part + 1) * _STRIP), _STRIP, (first, first + panels)
    if by_panel:
        begin, end, step, which = 0, depth, chunk, (first + part, first + part + 1)
    for k in range(begin, end, step):
        start = k // chunk * chunk
        apart = min(chunk, depth - start) * width
        at = start * panels * width + (which[0] - first) * apart + (k - start) * width
        _pack(x, not by_panel, n, which, k0 + k, min(step, depth - k), width, lanes, packed, at, apart)


@jit
def _pack(x, flipped, n, panels, k0, depth, width, lanes, packed, at, apart):
    """Panels panels[0]..panels[1] of the n rows of x, or columns if flipped, from the k-th number k0 on.

    Row i becomes column i % width of panel i // width; what is missing in the last one is zero. The first panel begins
    at the number `at` of packed, each other one `apart` behind the one before.
    """
    flat, step = x.reshape(-1), x.shape[1]
    if flipped:
        for first in range(0, depth, _AT_ONCE):
            for p in range(panels[0], panels[1]):
                to, row = at + (p - panels[0]) * apart + first * width, (k0 + first) * step + p * width
                rows = min(_AT_ONCE, depth - first)
                for i in range(0, width, lanes):
                    seen = n - p * width - i
                    copy(flat, row + i, step, rows, seen, packed, to + i, width, min(lanes, width - i))
        return
    for p in range(panels[0], panels[1]):
        to, seen = at + (p - panels[0]) * apart, min(width, n - p * width)
        if seen < width:
            packed[to : to + depth * width] = 0
        for i in range(0, seen, lanes):
            for k in range(0, depth, lanes):
                here = (p * width + i) * step + k0 + k
                transpose(flat, here, step, seen - i, depth - k, packed, to + k * width + i, width)
