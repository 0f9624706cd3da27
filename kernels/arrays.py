"""Arrays: NumPy's on the host, CuPy's or the simulator's on a device.

A device's arrays take part in NumPy's functions and operators by NEP 13 and 18, so `np.exp(x)` runs where x is. New
arrays are made beside others by `np.zeros(shape, like=x)`, and `np.asarray(host, like=x)` moves one there. The two
kinds never mix by themselves.
"""

import math

import numpy as np

CACHE_LINE = 64  # bytes, of a CPU
_SHARE, _BESIDE = 1024, 16  # of a large array's bytes one in so many is spare; and what malloc keeps beside them


def is_array(x):
    """Whether x is an array, on whichever device; not so for NumPy's scalars and for Tensors."""
    return type(x) is np.ndarray or hasattr(x, "__array_function__")


def as_array(x):
    """x, or a 0-d array in place of the scalar that NumPy makes of a 0-d result."""
    return np.asarray(x) if isinstance(x, np.generic) else x


def on_host(x):
    """x as a NumPy array; from a device that is a copy, for which the host waits."""
    return x.get() if hasattr(x, "get") else x


def empty(shape, dtype, like=None):
    """`np.empty`, but from the beginning of a cache line on: a register that is stored or loaded then crosses none.

    Beside `like`, if that is on a device, where every array begins so.
    """
    if like is not None and type(like) is not np.ndarray:
        return np.empty(shape, dtype, like=like)
    dtype, n = np.dtype(dtype), math.prod(shape)
    # Of a large array a share, not so many bytes: in its place, once freed, smaller ones as large together have room.
    # Otherwise the last would not, for a few bytes, and the process would grow.
    spare = max(CACHE_LINE, n * dtype.itemsize // _SHARE - _BESIDE)
    memory = np.empty(n + spare // dtype.itemsize, dtype)
    address = memory.__array_interface__["data"][0]
    first = -address % CACHE_LINE // dtype.itemsize
    return memory[first : first + n].reshape(shape)
