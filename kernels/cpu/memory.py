"""Where the kernels' large results lie."""

import math

import numpy as np

_CACHE_LINE = 64  # bytes


def empty(shape, dtype):
    """`np.empty`, but from the beginning of a cache line on: a register that is stored or loaded then crosses none."""
    dtype, n = np.dtype(dtype), math.prod(shape)
    memory = np.empty(n + _CACHE_LINE // dtype.itemsize, dtype)
    address = memory.__array_interface__["data"][0]
    first = -address % _CACHE_LINE // dtype.itemsize
    return memory[first : first + n].reshape(shape)
