"""Conversion to another storage type. Between the two 16-bit types by way of float32, which holds both exactly."""

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.cuda.launch import STORAGE, Kernel, blocks, contiguous, empty

_from = {name: Kernel("cast/cast.cu", f"from_{kind}") for name, kind in (("float32", "float"), ("float64", "double"))}
_to = {name: Kernel("cast/cast.cu", f"to_{kind}") for name, kind in (("float32", "float"), ("float64", "double"))}
_THREADS = 256


def cast(x: Array, dtype: npt.DTypeLike) -> Array:
    """x of any shape as `dtype`, rounded to the nearest, ties to even; x itself where it has that dtype."""
    dtype = np.dtype(dtype)
    for name in (x.dtype.name, dtype.name):
        if name not in STORAGE:
            raise TypeError(f"no kernels for {name}; there are {', '.join(STORAGE)}")
    if x.dtype == dtype:
        return x
    if x.dtype.itemsize == dtype.itemsize == 2:
        return cast(cast(x, np.float32), dtype)
    out = empty(x, x.shape, dtype)
    # the wider of the two is named by the kernel, the other is its `scalar`
    narrowing = x.dtype.itemsize > dtype.itemsize
    wide, scalar = (x.dtype, dtype) if narrowing else (dtype, x.dtype)
    kernel = (_from if narrowing else _to)[wide.name]
    kernel.launch(blocks(x.size, _THREADS * 16 // wide.itemsize), _THREADS, out, contiguous(x), x.size, dtype=scalar)
    return out
