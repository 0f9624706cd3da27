"""The addition of a bias and the GELU behind it, in one pass: their sum is never stored.

The formulas are those of `kernels.gelu.cpu`.
"""

import math

import numpy as np
from numba import prange

from kernels.cpu.aligned_allocation import aligned_empty_like
from kernels.cpu.compile import chunk_rows, exp, jit, launch
from kernels.gelu.cpu import CUBIC, INV_SQRT_2PI, LINEAR, SQRT_HALF


def bias_gelu_forward(x, bias, approximate):
    """x (..., C), bias (C,), approximate "none" or "tanh" -> gelu(x + bias), shaped like x."""
    run = _forward_tanh if approximate == "tanh" else _forward_exact
    out = launch(run, 1.6 * x.size, np.ascontiguousarray(x).reshape(-1, x.shape[-1]), bias)
    return out.reshape(x.shape)


def bias_gelu_backward(dout, x, bias, approximate):
    """-> dx, shaped like x, dbias (C,)."""
    C = x.shape[-1]
    rows, drows = np.ascontiguousarray(x).reshape(-1, C), np.ascontiguousarray(dout).reshape(-1, C)
    run = _backward_tanh if approximate == "tanh" else _backward_exact
    dx, dbias = launch(run, 1.7 * x.size, drows, rows, bias, chunk_rows(len(rows), 16))
    return dx.reshape(x.shape), dbias


@jit(parallel=True)
def _forward_tanh(x, bias):
    out = aligned_empty_like(x)
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR), x.dtype.type(CUBIC)
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y = x[n, c] + bias[c]
            out[n, c] = y / (one + exp(-y * (linear + cubic * (y * y))))
    return out


@jit(parallel=True)
def _backward_tanh(dout, x, bias, chunk):
    N, C = x.shape
    n_chunks = (N + chunk - 1) // chunk
    dx, dbiases = aligned_empty_like(x), np.zeros((n_chunks, C), x.dtype)
    one, linear, cubic = x.dtype.type(1), x.dtype.type(LINEAR), x.dtype.type(CUBIC)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            for c in range(C):
                y = x[n, c] + bias[c]
                square = y * y
                s = one / (one + exp(-y * (linear + cubic * square)))
                du2 = linear + x.dtype.type(3) * cubic * square
                dx[n, c] = dout[n, c] * (s + y * s * (one - s) * du2)
                dbiases[i, c] += dx[n, c]
    return dx, _sum_chunks(dbiases)


@jit(parallel=True)
def _forward_exact(x, bias):
    out = aligned_empty_like(x)
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y = x[n, c] + bias[c]
            out[n, c] = y * 0.5 * math.erfc(-y * SQRT_HALF)
    return out


@jit(parallel=True)
def _backward_exact(dout, x, bias, chunk):
    N, C = x.shape
    n_chunks = (N + chunk - 1) // chunk
    dx, dbiases = aligned_empty_like(x), np.zeros((n_chunks, C), x.dtype)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            for c in range(C):
                y = x[n, c] + bias[c]
                cdf = 0.5 * math.erfc(-y * SQRT_HALF)
                dx[n, c] = dout[n, c] * (cdf + y * exp(x.dtype.type(-0.5) * y * y) * INV_SQRT_2PI)
                dbiases[i, c] += dx[n, c]
    return dx, _sum_chunks(dbiases)


@jit
def _sum_chunks(parts):
    """parts (n_chunks, C) -> (C,), in order."""
    total = np.zeros(parts.shape[1], parts.dtype)
    for i in range(parts.shape[0]):
        for c in range(parts.shape[1]):
            total[c] += parts[i, c]
    return total
