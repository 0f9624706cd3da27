"""GELU, exact and in GPT-2's tanh form, in one pass over the elements; `kernels.gelu.reference` explains the formulas.

The tanh form needs one exponential. The exact one is computed in float64, since that is what erfc takes.
"""

import math

import numpy as np
from numba import prange

from kernels.arrays import Array, empty
from kernels.cpu.compile import exp2_of_product, jit, launch

LINEAR = math.sqrt(2.0 / math.pi)
CUBIC = LINEAR * 0.044715  # u = LINEAR * x + CUBIC * x**3
LINEAR_BASE_2, CUBIC_BASE_2 = LINEAR / math.log(2.0), CUBIC / math.log(2.0)  # of u / ln 2: exp(u) is a power of 2
SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
HIGHEST = 8.7  # above, the derivative is 1
_CHUNK = 4096


def gelu_forward(x: Array, approximate: str) -> Array:
    """x of any shape; approximate "none" (erf) or "tanh" -> shaped like x."""
    if x.dtype == np.float16:  # which Numba has not
        return gelu_forward(x.astype(np.float32), approximate).astype(np.float16)
    out = empty(x.shape, x.dtype)
    run = _forward_tanh if approximate == "tanh" else _forward_exact
    launch(run, 1.5 * x.size, np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


def gelu_backward(dout: Array, x: Array, approximate: str, overwrite: bool = False) -> Array:
    """-> dx, shaped like x; written over x, a contiguous array, if `overwrite`."""
    if x.dtype == np.float16:
        wide = gelu_backward(dout.astype(np.float32), x.astype(np.float32), approximate)
        if not overwrite:
            return wide.astype(np.float16)
        x[...] = wide
        return x
    dx = x if overwrite else empty(x.shape, x.dtype)
    run = _backward_tanh if approximate == "tanh" else _backward_exact
    dout, x = np.ascontiguousarray(dout), np.ascontiguousarray(x)
    launch(run, 1.5 * x.size, dout.reshape(-1), x.reshape(-1), overwrite, dx.reshape(-1))
    return dx


# A chunk is sliced before the loop over it. An index into the whole array might be negative for all that the compiler
# knows, and Python's meaning of negative indices prevents vector code.


@jit(parallel=True)
def _forward_tanh(x, out):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        _forward_tanh_chunk(x[chunk], out[chunk])


@jit(reorder=False)
def _forward_tanh_chunk(x, out):
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR_BASE_2), x.dtype.type(CUBIC_BASE_2)
    lowest, highest = x.dtype.type(_lowest(x.itemsize)), x.dtype.type(_highest(x.itemsize))
    for j in range(x.size):
        limited = lowest if x[j] < lowest else x[j]
        limited = highest if limited > highest else limited
        root = exp2_of_product(limited, linear + cubic * (limited * limited))  # exp(u)
        out[j] = x[j] * (root / (one + root * root)) * root


@jit
def _lowest(itemsize):
    """The lowest number that is computed with: of the gate and its derivative nothing is left there."""
    return -12.9525 if itemsize == 4 else -30.0  # u = -87.9, and exp(u) is 0


@jit
def _highest(itemsize):
    """Above, out is x to the last bit: u / ln 2 is a whole number here, so that the factors are 2**-k and 2**k."""
    return 5.3427625 if itemsize == 4 else 8.46784511841623


@jit(parallel=True)
def _backward_tanh(dout, x, overwrite, dx):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        # if dx is written over x, a copy in the first-level cache: the vector code is for arrays that do not overlap
        _backward_tanh_chunk(dout[chunk], x[chunk].copy() if overwrite else x[chunk], dx[chunk])


@jit(reorder=False)
def _backward_tanh_chunk(dout, x, dx):
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR_BASE_2), x.dtype.type(CUBIC_BASE_2)
    linear2, cubic6 = x.dtype.type(2.0 * LINEAR), x.dtype.type(6.0 * CUBIC)
    lowest, highest = x.dtype.type(_lowest(x.itemsize)), x.dtype.type(HIGHEST)
    for j in range(x.size):
        limited = lowest if x[j] < lowest else x[j]
        limited = highest if limited > highest else limited
        square = limited * limited
        root = exp2_of_product(limited, linear + cubic * square)
        ratio = root / (one + root * root)
        dx[j] = dout[j] * ratio * (root + limited * ratio * (linear2 + cubic6 * square))


@jit(parallel=True, reorder=False)
def _forward_exact(x, out):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            v = np.float64(x[j])
            if v < -37.0:
                root, q = math.exp(-0.25 * v * v), 1.0 / (v * v)
                series = 1.0 - q * (1.0 - 3.0 * q * (1.0 - 5.0 * q * (1.0 - 7.0 * q)))
                out[j] = -root * INV_SQRT_2PI * series * root
            else:
                out[j] = v * 0.5 * math.erfc(-v * SQRT_HALF)


@jit(parallel=True, reorder=False)
def _backward_exact(dout, x, _, dx):  # the same arguments as _backward_tanh
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            v, d = np.float64(x[j]), np.float64(dout[j])
            v = -1e3 if v < -1e3 else v
            if v < -37.0:
                root = math.exp(-0.25 * v * v)
                slope = d * v * root * INV_SQRT_2PI * root
            else:
                slope = d * v * math.exp(-0.5 * v * v) * INV_SQRT_2PI
            dx[j] = d * (0.5 * math.erfc(-v * SQRT_HALF)) + slope
