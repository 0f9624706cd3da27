"""GELU, exact and in GPT-2's tanh form, in one pass over the elements.

The tanh form uses 0.5 * (1 + tanh(u)) = sigmoid(2u), which needs one exponential and has no cancellation.
"""

import math

import numpy as np
from numba import prange

from kernels.arrays import empty
from kernels.cpu.compile import exp, jit, launch

LINEAR = 2.0 * math.sqrt(2.0 / math.pi)
CUBIC = LINEAR * 0.044715  # 2u = LINEAR * x + CUBIC * x**3
SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_CHUNK = 4096


def gelu_forward(x, approximate):
    """x of any shape; approximate "none" (erf) or "tanh" -> shaped like x."""
    out = empty(x.shape, x.dtype)
    run = _forward_tanh if approximate == "tanh" else _forward_exact
    launch(run, 1.5 * x.size, np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


def gelu_backward(dout, x, approximate, overwrite=False):
    """-> dx, shaped like x; written over x, a contiguous array, if `overwrite`."""
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


@jit
def _forward_tanh_chunk(x, out):
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR), x.dtype.type(CUBIC)
    for j in range(x.size):
        out[j] = x[j] / (one + exp(-x[j] * (linear + cubic * (x[j] * x[j]))))


@jit(parallel=True)
def _backward_tanh(dout, x, overwrite, dx):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        chunk = slice(i * _CHUNK, (i + 1) * _CHUNK)
        # if dx is written over x, a copy in the first-level cache: the vector code is for arrays that do not overlap
        _backward_tanh_chunk(dout[chunk], x[chunk].copy() if overwrite else x[chunk], dx[chunk])


@jit
def _backward_tanh_chunk(dout, x, dx):
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR), x.dtype.type(CUBIC)
    for j in range(x.size):
        square = x[j] * x[j]
        s = one / (one + exp(-x[j] * (linear + cubic * square)))
        du2 = linear + x.dtype.type(3) * cubic * square
        dx[j] = dout[j] * (s + x[j] * s * (one - s) * du2)


@jit(parallel=True)
def _forward_exact(x, out):
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            out[j] = x[j] * 0.5 * math.erfc(-x[j] * SQRT_HALF)


@jit(parallel=True)
def _backward_exact(dout, x, _, dx):  # the same arguments as _backward_tanh
    for i in prange((x.size + _CHUNK - 1) // _CHUNK):
        for j in range(i * _CHUNK, min(x.size, (i + 1) * _CHUNK)):
            cdf = 0.5 * math.erfc(-x[j] * SQRT_HALF)
            dx[j] = dout[j] * (cdf + x[j] * exp(x.dtype.type(-0.5) * x[j] * x[j]) * INV_SQRT_2PI)
