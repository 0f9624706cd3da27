"""float16 and bfloat16 in compiled loops, where Numba has neither type: conversions between their bits and float32.

Both conversions to 16 bits round to the nearest, ties to even, as the hardware's do.
"""

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.cpu.compile import jit

_FORMATS = {"float16": 1, "bfloat16": 2}
_U = np.uint32
_NO_BITS = np.zeros(0, np.uint16)


def format_of(dtype: npt.DTypeLike) -> int:
    """1 for float16, 2 for bfloat16, 0 for any other dtype: what the functions below take as `form`."""
    return _FORMATS.get(np.dtype(dtype).name, 0)


def bits_of(x: Array | None) -> Array:
    """The bits of a 16-bit array, uint16 of the same memory; an empty array for None."""
    return _NO_BITS if x is None else x.view(np.uint16)


@jit
def widen(bits, form):
    """The float32 that these 16 bits stand for."""
    bits = _U(bits)
    if form == 2:
        return _U(bits << _U(16)).view(np.float32)
    # exponent and fraction moved into place; times 2**112 for the difference of the exponents' biases, which also
    # makes normal numbers of subnormal ones
    moved = _U((bits & _U(0x7FFF)) << _U(13)).view(np.float32)
    magnitude = np.float32(moved * _U(0x77800000).view(np.float32)).view(np.uint32)
    if (bits & _U(0x7C00)) == _U(0x7C00):  # infinity, NaN
        magnitude = _U(magnitude | _U(0x7F800000))
    return _U(magnitude | ((bits & _U(0x8000)) << _U(16))).view(np.float32)


@jit
def narrow(x, form):
    """float32 -> 16 bits."""
    bits = np.float32(x).view(np.uint32)
    sign = _U(bits & _U(0x80000000))
    bits = _U(bits ^ sign)
    if bits > _U(0x7F800000):  # NaN
        rounded = _U(0x7FC0) if form == 2 else _U(0x7E00)
    elif form == 2:  # add half a unit less one bit; one bit more rounds a tie to even
        rounded = _U((bits + _U(0x7FFF) + ((bits >> _U(16)) & _U(1))) >> _U(16))
    elif bits >= _U(0x47800000):  # 65536 and more, infinity
        rounded = _U(0x7C00)
    elif bits < _U(0x38800000):  # subnormal: the last bit of this sum is the last bit of the result
        rounded = _U(np.float32(_U(bits).view(np.float32) + np.float32(0.5)).view(np.uint32) - _U(0x3F000000))
    else:  # as for bfloat16, and the difference of the exponents' biases
        rounded = _U((bits - _U(0x38000000) + _U(0xFFF) + ((bits >> _U(13)) & _U(1))) >> _U(13))
    return np.uint16(rounded | (sign >> _U(16)))


@jit
def round_to_odd(x):
    """float64 -> float32 such that rounding to 16 bits after it is as if done at once; see `kernels.cast.reference`."""
    y = np.float32(x)
    if np.float64(y) == x or np.isnan(x):
        return y
    bits = np.float32(y).view(np.uint32)
    if abs(np.float64(y)) > abs(x):
        bits = _U(bits - _U(1))
    return _U(bits | _U(1)).view(np.float32)
