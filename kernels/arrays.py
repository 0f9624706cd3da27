"""Arrays: NumPy's on the host, CuPy's or the simulator's on a device.

A device's arrays take part in NumPy's functions and operators by NEP 13 and 18, so `np.exp(x)` runs where x is. New
arrays are made on x's device by `np.zeros(shape, like=x)`, and `np.asarray(host, like=x)` copies one there. An
operation on both kinds raises.
"""

import math

import numpy as np

CACHE_LINE = 64  # bytes, of a CPU
_PADDING, _MALLOC_HEADER = 1024, 16  # 1/1024 of a large array's bytes is padding; bytes that malloc adds to them


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
    """`np.empty`, beginning at a cache line, so that no vector load or store crosses one.

    The array is on `like`'s device, where every array is aligned.
    """
    if like is not None and type(like) is not np.ndarray:
        return np.empty(shape, dtype, like=like)
    dtype, n = np.dtype(dtype), math.prod(shape)
    # A large array's padding is a fraction of its size. Then smaller arrays of the same total size fit into its memory
    # once it is freed; with a fixed padding the last one would not, and the process would grow.
    padding = max(CACHE_LINE, n * dtype.itemsize // _PADDING - _MALLOC_HEADER)
    memory = np.empty(n + padding // dtype.itemsize, dtype)
    address = memory.__array_interface__["data"][0]
    first = -address % CACHE_LINE // dtype.itemsize
    return memory[first : first + n].reshape(shape)
