"""Memory in compiled code that begins a cache line, as that of `kernels.arrays.empty` does."""

import numpy as np

from kernels.arrays import CACHE_LINE
from kernels.cpu.compile import jit


@jit
def uninitialised(n, like):
    """n numbers of that array's dtype."""
    x = np.empty(n + CACHE_LINE // like.itemsize, like.dtype)
    first = (-x.ctypes.data % CACHE_LINE) // x.itemsize
    return x[first : first + n]


@jit
def empty_like(x):
    """`np.empty_like` of an x without gaps."""
    return uninitialised(x.size, x).reshape(x.shape)


@jit
def three(n, like):
    """Three arrays as of `uninitialised`."""
    return uninitialised(n, like), uninitialised(n, like), uninitialised(n, like)
