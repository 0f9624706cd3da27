"""Dropout whose mask is a function of (seed, step, stream, index): drawn in registers, never stored."""

import numpy as np
from numba import prange

from kernels.arrays import Array, empty
from kernels.cpu.compile import jit, launch
from kernels.cpu.philox import philox4x32
from kernels.philox import derive_key, keep_threshold

_COUNTERS = 2048  # Philox counters, four elements each, in a task of the parallel loop


def dropout_forward(x: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """x times a mask: 0 with probability p, else 1 / (1 - p). Any shape -> the same."""
    threshold = keep_threshold(p)  # first: it raises if p is not a probability
    out = empty(x.shape, x.dtype)
    k0, k1 = derive_key(seed, step, stream)
    if threshold == 0:
        return np.multiply(x, 0, out=out)
    last = np.uint32(threshold - 1)  # the largest word that keeps an element: the threshold itself may be 2**32
    scale = x.dtype.type(1.0 / (1.0 - p))
    key = np.uint32(k0), np.uint32(k1)
    launch(_apply, 3.0 * x.size, np.ascontiguousarray(x).reshape(-1), out.reshape(-1), last, scale, *key)
    return out


def dropout_backward(dout: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """-> dx. Dropout is linear: its backward function is dropout, with the mask drawn again."""
    return dropout_forward(dout, p, seed, step, stream)


@jit(parallel=True)
def _apply(x, out, last, scale, k0, k1):
    n_counters = (x.size + 3) // 4
    for task in prange((n_counters + _COUNTERS - 1) // _COUNTERS):
        chunk = slice(4 * task * _COUNTERS, 4 * (task + 1) * _COUNTERS)
        _apply_chunk(x[chunk], out[chunk], task * _COUNTERS, last, scale, k0, k1)


@jit
def _apply_chunk(x, out, first, last, scale, k0, k1):
    n, none = (x.size + 3) // 4, np.uint32(0)
    words, in_order, zero = np.empty((4, n), np.uint32), np.empty(4 * n, np.uint32), x.dtype.type(0)
    start = np.uint32(first), np.uint32(first >> 32)  # a chunk never crosses a multiple of 2**32 counters
    philox4x32(start, (np.uint32(1), none), none, none, k0, k1, words)
    for i in range(n):
        for word in range(4):
            in_order[4 * i + word] = words[word, i]
    for i in range(x.size):
        out[i] = x[i] * (scale if in_order[i] <= last else zero)
