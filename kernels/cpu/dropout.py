"""Dropout whose mask is a function of (seed, step, stream, index): drawn in registers, never stored."""

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.philox import philox4x32
from kernels.philox import derive_key, keep_threshold

_COUNTERS = 2048  # Philox counters, four elements each, that one task of the parallel loop handles


def dropout_forward(x, p, seed, step, stream):
    """Zero elements with probability p, divide the rest by 1 - p. Any shape -> the same."""
    threshold = np.uint64(keep_threshold(p))  # first: it refuses a p that is no probability
    out = np.empty(x.shape, x.dtype)
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
    zero = x.dtype.type(0)
    n_counters = (x.size + 3) // 4
    for task in prange((n_counters + _COUNTERS - 1) // _COUNTERS):
        first, last = task * _COUNTERS, min(n_counters, (task + 1) * _COUNTERS)
        words = np.empty(4 * _COUNTERS, np.uint32)
        for c in range(first, last):
            counter, high = np.uint32(c), np.uint32(c >> 32)
            w0, w1, w2, w3 = philox4x32(counter, high, np.uint32(0), np.uint32(0), k0, k1)
            at = 4 * (c - first)
            words[at], words[at + 1], words[at + 2], words[at + 3] = w0, w1, w2, w3
        for i in range(4 * first, min(x.size, 4 * last)):
            keep = np.uint64(words[i - 4 * first]) < threshold
            out[i] = x[i] * scale if keep else zero
