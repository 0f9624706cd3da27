"""Arrays in another storage type, on all threads; the 16-bit types by way of their bits."""

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, round_to_odd, widen

_CHUNK = 16384
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def cast(x, dtype):
    """x of any shape as `dtype`, rounded to the nearest, ties to even; x itself where it has that dtype."""
    dtype = np.dtype(dtype)
    for name in (x.dtype.name, dtype.name):
        if name not in _FLOATS:
            raise TypeError(f"no kernels for {name}; there are {', '.join(_FLOATS)}")
    if x.dtype == dtype:
        return x
    if format_of(x.dtype) and format_of(dtype):
        x = cast(x, np.float32)  # which holds both exactly
    out = np.empty(x.shape, dtype)
    source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    if format_of(x.dtype):
        launch(_widen, 0.5 * x.size, bits_of(source), format_of(x.dtype), target)
    elif format_of(dtype):
        launch(_narrow, 0.5 * x.size, source, format_of(dtype), bits_of(target))
    else:
        launch(_convert, 0.3 * x.size, source, target)
    return out


@jit(parallel=True)
def _widen(bits, form, out):
    for i in prange((bits.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(bits.size, (i + 1) * _CHUNK)):
            out[j] = widen(bits[j], form)


@jit(parallel=True)
def _narrow(x, form, bits):
    for i in prange((bits.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(bits.size, (i + 1) * _CHUNK)):
            bits[j] = narrow(round_to_odd(x[j]), form)


@jit(parallel=True)
def _convert(x, out):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            out[j] = out.dtype.type(x[j])
