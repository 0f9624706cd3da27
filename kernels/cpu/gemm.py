"""Matrix products in blocks that fit the caches: out = a @ b + bias.

After Goto and van de Geijn (2008, "Anatomy of high-performance matrix multiplication"). Both factors are copied into
panels, of ROWS rows of a and `width` columns of b, in which the numbers lie in the order in which they are needed. The
innermost loop multiplies one panel by another: each step of it takes a column of one and a row of the other and adds
their outer product to sums that never leave the registers, so a number that was loaded is used ROWS or `width` times.

The smaller factor is packed first, for all threads. Of the other one each thread packs what it needs when it needs it,
so that this never leaves the thread's own cache. While it multiplies, what it will pack next is on its way there: the
short pieces of rows that make up a panel would be slow to wait for. Where b's rows are short and few panels of a meet
them, packing b costs more than it gains, and the tiles read b as it lies.

    for each stretch of the sums and of the smaller factor   packed, it fits the outer cache
      in parallel, for each part of that                     pack it
      in parallel, for each block of out                     a group of the other's panels, and all or some of these
        for each chunk of the stretch, at most KC
          pack the group
          for each panel of a                                stays in the first-level cache
            for each panel of b
              tile: out's ROWS x width += one panel times the other
"""

import numpy as np
from numba import prange

from kernels.arrays import CACHE_LINE
from kernels.cpu.aligned_allocation import uninitialised
from kernels.cpu.blocking import copy_block, evenly, padded
from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel import FEW_ROWS, LEAST_ROWS, ROWS, VECTORS, small_tile, tile, tiny_tile
from kernels.cpu.vector_ops import copy, take, transpose

KC = 384  # most of the sums at a time: a float32 panel of a of that length stays in the first-level cache
STRETCH = 3 * KC  # of the sums, that is packed at a time, or more if few panels are shared
PACKED = 1 << 20  # numbers of the shared factor, likewise
READ_IN_PLACE = 1 << 19  # numbers of a b that is not packed, which all threads go through before any goes on
SHORT_ROW, FEW_ROWS_OF_A = 2048, 1024  # most bytes of such a b's rows, of which a page holds two, and most rows of a
LEAST, GROUP = 2, 4  # least and most panels in a group: a row of few of them is not worth fetching
_STRIP, _AT_ONCE = 64, 8  # rows of a transposed factor that a part packs, and that it packs into one panel at a time
TASKS = 8  # of a thread, if there is enough to do: one that was held up leaves more of them to the others
FLOPS_PER_NANOSECOND = 60  # of one thread, roughly


@jit
def multiply(a, b, bias, add, out, lanes, workers):
    """out (M, N) = a (M, K) @ b (K, N) + bias; if add, out + a @ b.

    a, b: (a C-contiguous array, whether its transpose is meant). bias (N,), or (0,) for none. M, N, K are not 0. A sum
    over k is formed in the order of k, whatever the number of workers.
    """
    (M, N), width = out.shape, VECTORS * lanes
    shift = np.zeros(padded(N, width), out.dtype)  # whole panels
    shift[: bias.size] = bias
    # each factor is (K, n), to be cut into panels of columns: (its memory, whether that is transposed, n, their width)
    of_a, of_b = (a[0], not a[1], M, ROWS), (b[0], b[1], N, width)
    stays = _can_stay(b, M, width)
    own_is_a = stays or M >= N
    own, shared = (of_a, of_b) if own_is_a else (of_b, of_a)
    if stays:
        _multiply_in_place(own, b[0], shift, add, out, lanes, workers)
    else:
        _multiply(own, shared, own_is_a, shift, add, out, lanes, workers)


@jit
def _can_stay(b, M, width):
    """Whether b, to be met by M rows of a, is best read as it lies; whole panels then, whose rows begin cache lines."""
    (x, turned), row = b, b[0].shape[1]
    short = M <= FEW_ROWS_OF_A and row * x.itemsize <= SHORT_ROW and row % width == 0
    return short and not turned and x.ctypes.data % CACHE_LINE == 0


@jit(parallel=True)
def _multiply(own, shared, own_is_a, shift, add, out, lanes, workers):
    K, own_panels, panels = _length(shared), _panels(own), _panels(shared)
    turned, width, b_row = shared[1], shared[3], VECTORS * lanes
    stretch = min(K, max(STRETCH, PACKED // (panels * width) // KC * KC))
    at_once = min(panels, max(1, PACKED // (stretch * width)))
    packed = uninitialised(stretch * at_once * width, out)  # of which a tile loads whole cache lines
    for k0 in range(0, K, stretch):
        depth = min(stretch, K - k0)
        chunk = evenly(depth, KC, _STRIP)
        for first in range(0, panels, at_once):
            here = min(at_once, panels - first)
            parts = here if turned else (depth + _STRIP - 1) // _STRIP
            splits, group, tasks = _share_out(own_panels, here, workers)
            taken = np.zeros(16, np.int64)
            for _ in prange(workers):
                part = take(taken, 0)
                while part < parts:
                    _pack_part(shared, first, here, k0, depth, chunk, lanes, packed, part)
                    part = take(taken, 0)
            for _ in prange(workers):
                group_packed = uninitialised(group * own[3] * KC, out)
                task, k = take(taken, 8), 0
                while task < tasks:
                    (mine, ours), length = _panels_of(task, splits, group, own_panels, here), min(chunk, depth - k)
                    _pack(own, mine, k0 + k, length, lanes, group_packed, 0, own[3] * length)
                    left, begin = (group_packed, 0, mine), k0 + k == 0 and not add
                    right = packed, (k * here + ours[0] * length) * width, (first + ours[0], first + ours[1])
                    if not own_is_a:
                        left, right = right, left
                    k += length
                    if k == depth:
                        task, k = take(taken, 8), 0
                    following = _panels_of(min(task, tasks - 1), splits, group, own_panels, here)[0]
                    ahead = _region(own, following, k0 + k, min(chunk, depth - k))
                    _multiply_panels(left, right, b_row * length, b_row, length, lanes, begin, shift, out, ahead)


@jit(parallel=True)
def _multiply_in_place(own, b, shift, add, out, lanes, workers):
    """The same for a b (K, N) that stays as it is: own is a, and b's panels are columns of it."""
    (K, N), width, flat = b.shape, VECTORS * lanes, b.reshape(-1)
    own_panels, panels = _panels(own), N // width
    stretch = max(2 * KC, READ_IN_PLACE // N // KC * KC)
    splits, group, tasks = _share_out(own_panels, panels, workers)
    for k0 in range(0, K, stretch):
        depth = min(stretch, K - k0)
        chunk = evenly(depth, KC)
        taken = np.zeros(1, np.int64)
        for _ in prange(workers):
            group_packed = uninitialised(group * ROWS * KC, out)
            task, k = take(taken, 0), 0
            while task < tasks:
                (mine, ours), length = _panels_of(task, splits, group, own_panels, panels), min(chunk, depth - k)
                _pack(own, mine, k0 + k, length, lanes, group_packed, 0, ROWS * length)
                left, begin = (group_packed, 0, mine), k0 + k == 0 and not add
                right = flat, (k0 + k) * N + ours[0] * width, ours
                k += length
                if k == depth:
                    task, k = take(taken, 0), 0
                following = _panels_of(min(task, tasks - 1), splits, group, own_panels, panels)[0]
                ahead = _region(own, following, k0 + k, min(chunk, depth - k))
                _multiply_panels(left, right, width, N, length, lanes, begin, shift, out, ahead)


@jit
def _share_out(own_panels, panels, workers):
    """How many parts the shared panels fall into, how many of the other factor's a task takes, and how many tasks."""
    splits = min(panels, (TASKS * workers + own_panels - 1) // own_panels)
    group = max(LEAST, min(GROUP, own_panels * splits // (TASKS * workers)))
    return splits, group, (own_panels + group - 1) // group * splits


@jit
def _panels_of(task, splits, group, own_panels, panels):
    """Which panels a task multiplies, of either factor: the first, and the first that is not meant any more."""
    p, q = task // splits * group, task % splits
    return (p, min(own_panels, p + group)), (q * panels // splits, (q + 1) * panels // splits)


@jit
def _length(factor):
    """How many numbers a sum has."""
    return factor[0].shape[1] if factor[1] else factor[0].shape[0]


@jit
def _panels(factor):
    """How many there are."""
    return (factor[2] + factor[3] - 1) // factor[3]


@jit
def _region(factor, panels, k0, depth):
    """What `_pack` would read: (its memory, where it begins there, the distance of rows, rows, numbers of a row)."""
    x, turned, n, width = factor
    first, last, step = panels[0] * width, min(n, panels[1] * width), x.shape[1]
    if turned:
        return x.reshape(-1), first * step + k0, step, last - first, depth
    return x.reshape(-1), k0 * step + first, step, depth, last - first


@jit
def _multiply_panels(left, right, b_panel, b_row, depth, lanes, first, shift, out, ahead):
    """Some panels of a times some of b: added to out, or to shift if first.

    left, right: what holds the panels of a and b, where the first of these begins in it, and (the number of the first
    panel, of the first that is not meant any more). `depth` numbers of each sum are meant. b's panels lie b_panel
    numbers apart, the rows of one b_row. ahead: the region to pack next, which is fetched meanwhile (the last one again
    if there is no next).
    """
    (a, a_at, rows), (b, b_at, cols) = left, right
    M, N = out.shape
    width = VECTORS * lanes
    flat, spare = out.reshape(-1), np.empty(ROWS * width, out.dtype)
    x, x_at, x_step, x_rows, x_columns = ahead
    line = CACHE_LINE // x.itemsize
    lines = (x_columns + 2 * line - 2) // line  # of a row of what is ahead, wherever in a line it begins
    each = max(1, depth // lines)  # rows that a tile fetches. The last tiles do: what the first ones fetched would be
    fetched = x_rows - each * (rows[1] - rows[0]) * (cols[1] - cols[0])  # displaced again before it is packed
    for p in range(rows[0], rows[1]):
        for q in range(cols[0], cols[1]):
            later = (x_at + max(0, fetched) * x_step, x_step, lines) if fetched > -each else (x_at, 0, 1)
            fetched += each
            of_a, of_b = a_at + (p - rows[0]) * depth * ROWS, b_at + (q - cols[0]) * b_panel
            m, n = p * ROWS, q * width
            begin, at, step = (shift, n, 0) if first else (flat, m * N + n, N)
            if m + ROWS <= M and n + width <= N:
                tile(depth, a, of_a, ROWS, b, of_b, b_row, begin, at, step, flat, m * N + n, N, x, *later)
                continue
            # at the edge: a tile that is high enough, beside out, of which a part is copied
            height, breadth = min(ROWS, M - m), min(width, N - n)
            copy_block(begin, at, step, height, breadth, spare, 0, width, lanes)
            if height <= LEAST_ROWS:
                tiny_tile(depth, a, of_a, ROWS, b, of_b, b_row, spare, 0, width, spare, 0, width)
            elif height <= FEW_ROWS:
                small_tile(depth, a, of_a, ROWS, b, of_b, b_row, spare, 0, width, spare, 0, width)
            else:
                tile(depth, a, of_a, ROWS, b, of_b, b_row, spare, 0, width, spare, 0, width, x, *later)
            copy_block(spare, 0, width, height, breadth, flat, m * N + n, N, lanes)


@jit
def _pack_part(factor, first, panels, k0, depth, chunk, lanes, packed, part):
    """A part of some panels from the panel `first` on: one of them if turned, else rows that cross them all.

    The panels' first chunk of numbers along the sums comes first, panel after panel, then the next.
    """
    turned, width = factor[1], factor[3]
    begin, end, step, which = part * _STRIP, min(depth, (part + 1) * _STRIP), _STRIP, (first, first + panels)
    if turned:
        begin, end, step, which = 0, depth, chunk, (first + part, first + part + 1)
    for k in range(begin, end, step):
        start = k // chunk * chunk
        apart = min(chunk, depth - start) * width
        at = start * panels * width + (which[0] - first) * apart + (k - start) * width
        _pack(factor, which, k0 + k, min(step, depth - k), lanes, packed, at, apart)


@jit
def _pack(factor, panels, k0, depth, lanes, packed, at, apart):
    """Panels panels[0]..panels[1] of a factor (K, n), from the k-th row k0 on.

    Column i becomes column i % width of panel i // width; what is missing in the last one is zero. The first panel
    begins at the number `at` of packed, each other one `apart` behind the one before.
    """
    x, turned, n, width = factor
    flat, step = x.reshape(-1), x.shape[1]
    if not turned:
        for first in range(0, depth, _AT_ONCE):
            for p in range(panels[0], panels[1]):
                to, row = at + (p - panels[0]) * apart + first * width, (k0 + first) * step + p * width
                rows = min(_AT_ONCE, depth - first)
                for i in range(0, width, lanes):
                    seen = n - p * width - i
                    copy(flat, row + i, step, rows, seen, packed, to + i, width, min(lanes, width - i))
        return
    for p in range(panels[0], panels[1]):
        to = at + (p - panels[0]) * apart
        for i in range(0, width, lanes):
            seen, column = n - p * width - i, (p * width + i) * step + k0
            for k in range(0, depth, lanes):
                place = to + k * width + i
                transpose(flat, column + k, step, seen, depth - k, packed, place, width, width - i)
