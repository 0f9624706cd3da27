"""The norm of all gradients together, summed in float64 over chunks fixed by each array's size."""

import math
from collections.abc import Sequence

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.compile import jit, launch
from kernels.cpu.squares import in_range, largest_magnitude

_CHUNK = 16384


def global_norm(arrays: Sequence[Array]) -> float:
    """sqrt of the sum of all squares over a list of arrays -> Python float."""
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    total, scale = _sum(flat), 1.0
    if not in_range(total, 8):  # float64 numbers above 1e154 or below 1e-145, zeros, a number that is not finite
        scale = max((float(largest_magnitude(a)) for a in flat), default=1.0)
        total = _sum([a / scale for a in flat])
    return scale * math.sqrt(total)


def _sum(flat: Sequence[Array]) -> float:
    return sum(launch(_sum_of_squares, 0.1 * a.size, a) for a in flat)


@jit(parallel=True)
def _sum_of_squares(x):
    n_chunks = (x.size + _CHUNK - 1) // _CHUNK
    partial = np.zeros(n_chunks, np.float64)
    for i in prange(n_chunks):
        chunk, total = x[i * _CHUNK : (i + 1) * _CHUNK], 0.0
        for j in range(chunk.size):
            total += np.float64(chunk[j]) * np.float64(chunk[j])
        partial[i] = total
    total = 0.0
    for i in range(n_chunks):
        total += partial[i]
    return total
