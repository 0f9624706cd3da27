"""Dropout whose mask is a function of (seed, step, stream, index): drawn in registers, never stored."""

import numpy as np
from numba import prange

from kernels.arrays import empty
from kernels.cpu.compile import jit, launch
from kernels.cpu.philox import philox4x32
from kernels.philox import derive_key, keep_threshold

_COUNTERS = 2048  # Philox counters, four elements each, that one task of the parallel loop handles


def dropout_forward(x, p, seed, step, stream):
    """Zero elements with probability p, divide the rest by 1 - p. Any shape -> the same."""
    threshold = np.uint64(keep_threshold(p))  # first: it refuses a p that is no probability
    out = empty(x.shape, x.dtype)
    k0, k1 = derive_key(seed, step, stream)
    scale = x.dtype.type(1.0 / (1.0 - p))
    key = np.uint32(k0), np.uint32(k1)
    launch(_apply, 6.0 * x.size, np.ascontiguousarray(x).reshape(-1), out.reshape(-1), threshold, scale, *key)
    return out


def dropout_backward(dout, p, seed, step, stream):
    """-> dx. Dropout is linear, so the rule is dropout itself, with the mask drawn again."""
    return dropout_forward(dout, p, seed, step, stream)


@jit(parallel=True)
def _apply(x, out, threshold, scale, k0, k1):
    n_counters = (x.size + 3) // 4
    for task in prange((n_counters + _COUNTERS - 1) // _COUNTERS):
        chunk = slice(4 * task * _COUNTERS, 4 * (task + 1) * _COUNTERS)
        _apply_chunk(x[chunk], out[chunk], task * _COUNTERS, threshold, scale, k0, k1)


@jit
def _apply_chunk(x, out, first, threshold, scale, k0, k1):
    n, none = (x.size + 3) // 4, np.uint32(0)
    words, zero = np.empty((4, n), np.uint32), x.dtype.type(0)
    start = np.uint32(first), np.uint32(first >> 32)  # a chunk never crosses a multiple of 2**32 counters
    philox4x32(start, (np.uint32(1), none), none, none, k0, k1, words)
    for word in range(4):
        row = words[word]
        part, kept = x[word::4], out[word::4]
        for i in range(part.size):
            kept[i] = part[i] * scale if np.uint64(row[i]) < threshold else zero
