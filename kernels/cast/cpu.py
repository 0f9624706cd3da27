"""Arrays in another storage type, on all threads; arrays of 16-bit types are handled as their bits."""

import numpy as np
import numpy.typing as npt
from numba import prange

from kernels.arrays import Array, empty
from kernels.cpu.compile import jit, launch
from kernels.cpu.sixteen_bits import bits_of, format_of, narrow, round_to_odd, widen

_CHUNK = 16384
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def cast(x: Array, dtype: npt.DTypeLike) -> Array:
    """x of any shape as `dtype`, rounded to the nearest, ties to even; x itself where it has that dtype."""
    dtype = np.dtype(dtype)
    for name in (x.dtype.name, dtype.name):
        if name not in _FLOATS:
            raise TypeError(f"no kernels for {name}; there are {', '.join(_FLOATS)}")
    if x.dtype == dtype:
        return x
    if format_of(x.dtype) and format_of(dtype):
        x = cast(x, np.float32)  # it holds both formats exactly
    out = empty(x.shape, dtype)
    source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    if (x.dtype.name, dtype.name) == ("float32", "bfloat16"):
        launch(_round, 0.2 * x.size, source.view(np.uint32), bits_of(target))
    elif (x.dtype.name, dtype.name) == ("bfloat16", "float32"):
        launch(_extend, 0.2 * x.size, bits_of(source), target.view(np.uint32))
    elif format_of(x.dtype):
        launch(_widen, 0.5 * x.size, bits_of(source), format_of(x.dtype), target)
    elif format_of(dtype):
        launch(_narrow, 0.5 * x.size, source, format_of(dtype), bits_of(target))
    else:
        launch(_convert, 0.3 * x.size, source, target)
    return out


def to_bfloat16_bits(x: Array) -> Array:
    """float32 x of any shape, rounded to bfloat16 as above -> the 16 bits of each number, uint16, shaped like x."""
    bits = empty(x.shape, np.uint16)
    launch(_round, 0.2 * x.size, np.ascontiguousarray(x).reshape(-1).view(np.uint32), bits.reshape(-1))
    return bits


def from_bfloat16_bits(bits: Array) -> Array:
    """The inverse of `to_bfloat16_bits`, which is exact."""
    x = empty(bits.shape, np.float32)
    launch(_extend, 0.2 * x.size, bits.reshape(-1), x.reshape(-1).view(np.uint32))
    return x


# A chunk is sliced before the loop over it, or the compiler makes no vector code: see kernels.gelu.cpu.


@jit(parallel=True)
def _round(whole, half):
    for i in prange((whole.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        _round_chunk(whole[chunk], half[chunk])


@jit
def _round_chunk(whole, half):
    """Bits of float32 numbers to those of bfloat16: `sixteen_bits.narrow` for bfloat16, in few operations."""
    for j in range(whole.size):
        bits = whole[j]
        nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        nan = ((bits >> np.uint32(16)) & np.uint32(0x8000)) | np.uint32(0x7FC0)
        half[j] = np.uint16(nan if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else nearest)


@jit(parallel=True)
def _extend(half, whole):
    for i in prange((whole.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        _extend_chunk(half[chunk], whole[chunk])


@jit
def _extend_chunk(half, whole):
    for j in range(whole.size):
        whole[j] = np.uint32(half[j]) << np.uint32(16)


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


@jit(parallel=True, mixed=True)
def _convert(x, out):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            out[j] = out.dtype.type(x[j])
