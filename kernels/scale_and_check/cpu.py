"""Gradients divided by the loss scale, and whether they were all finite, in one pass."""

from collections.abc import Sequence

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, widen

_CHUNK = 16384


def scale_and_check(arrays: Sequence[Array], scale: float) -> Array:
    """Multiply every array by scale, in place -> flag () uint8: 1 if all elements were finite before."""
    if not arrays:
        raise ValueError("scale_and_check needs at least one array")
    finite = [_one(a, scale) for a in arrays]  # no short circuit: every array is to be scaled
    return np.asarray(all(finite), np.uint8)


def _one(x: Array, scale: float) -> Array:
    flat = np.ascontiguousarray(x).reshape(-1)
    form = format_of(x.dtype)
    if form:
        finite = launch(_scale_bits, 1.0 * x.size, bits_of(flat), form, np.float32(scale))
    else:
        finite = launch(_scale, 0.4 * x.size, flat, x.dtype.type(scale))
    if not np.shares_memory(flat, x):
        x[...] = flat.reshape(x.shape)
    return finite


@jit(parallel=True)
def _scale(x, scale):
    n_chunks = (x.size + _CHUNK - 1) // _CHUNK
    bad = np.zeros(n_chunks, np.uint8)
    for i in prange(n_chunks):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            if not np.isfinite(x[j]):
                bad[i] = 1
            x[j] *= scale
    return not bad.any()


@jit(parallel=True)
def _scale_bits(bits, form, scale):
    n_chunks = (bits.size + _CHUNK - 1) // _CHUNK
    bad = np.zeros(n_chunks, np.uint8)
    for i in prange(n_chunks):
        for j in range(i * _CHUNK, min(bits.size, (i + 1) * _CHUNK)):
            x = widen(bits[j], form)
            if not np.isfinite(x):
                bad[i] = 1
            bits[j] = narrow(x * scale, form)
    return not bad.any()
