"""Arrays in compiled code that begin at a cache line, like those of `kernels.arrays.empty`."""

import numpy as np

from kernels.arrays import CACHE_LINE
from kernels.cpu.compile import jit


@jit
def aligned_empty(n, like):
    """An uninitialised array (n,) of like's dtype."""
    x = np.empty(n + CACHE_LINE // like.itemsize, like.dtype)
    first = (-x.ctypes.data % CACHE_LINE) // x.itemsize
    return x[first : first + n]


@jit
def aligned_empty_like(x):
    """An uninitialised array of the shape and dtype of x, which is C-contiguous."""
    return aligned_empty(x.size, x).reshape(x.shape)
