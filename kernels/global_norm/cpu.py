"""The norm of all gradients together, summed in float64 over chunks fixed by each array's size."""

import math

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch

_CHUNK = 16384


def global_norm(arrays):
    """sqrt of the sum of all squares over a list of arrays -> Python float."""
    return math.sqrt(sum(launch(_sum_of_squares, 0.1 * a.size, np.ascontiguousarray(a).reshape(-1)) for a in arrays))


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
