"""Conversion between storage types in plain array code: the reference for the fast kernels."""

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array


def cast(x: Array, dtype: npt.DTypeLike) -> Array:
    """x of any shape as `dtype`, rounded to the nearest, ties to even; x itself where it has that dtype."""
    dtype = np.dtype(dtype)
    if (x.dtype.name, dtype.name) == ("float64", "bfloat16"):
        x = _round_to_odd(x)  # ml_dtypes rounds to float32 first: the second rounding could meet a false tie
    return x.astype(dtype, copy=False)


def _round_to_odd(x: Array) -> Array:
    """float64 -> float32 with the last bit 1 where digits were lost (Boldo & Melquiond 2008): never a false tie."""
    y = x.astype(np.float32)
    wide = y.astype(np.float64)
    inexact, outward = (wide != x) & ~np.isnan(x), np.abs(wide) > np.abs(x)
    bits = y.view(np.uint32) - (inexact & outward)  # where it was rounded away from 0: the neighbour nearer to it
    return (bits | inexact).astype(np.uint32, copy=False).view(np.float32)
