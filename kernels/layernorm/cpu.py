"""Layer normalisation over the last axis, one row at a time: each row is read once and stays in cache."""

import math

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.aligned_allocation import aligned_empty_like
from kernels.cpu.compile import jit, launch
from kernels.cpu.row_sums import chunk_rows, sum_chunks
from kernels.cpu.squares import in_range, largest_magnitude


def layernorm_forward(x: Array, weight: Array, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """x (..., C), weight (C,), bias (C,) or None -> out (..., C), mean (...), rstd (...)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    bias_row = np.zeros_like(weight) if bias is None else bias
    out, mean, rstd = launch(_forward, 0.5 * x.size, rows, weight, bias_row, eps)
    return out.reshape(x.shape), mean.reshape(x.shape[:-1]), rstd.reshape(x.shape[:-1])


def layernorm_backward(
    dout: Array, x: Array, weight: Array, mean: Array, rstd: Array, dresidual: Array | None = None
) -> tuple[Array, Array, Array]:
    """-> dx (..., C), to which dresidual (..., C) is added where it is given, dweight (C,), dbias (C,)."""
    C = x.shape[-1]
    rows, drows = np.ascontiguousarray(x).reshape(-1, C), np.ascontiguousarray(dout).reshape(-1, C)
    others = np.empty((0, C), x.dtype) if dresidual is None else np.ascontiguousarray(dresidual).reshape(-1, C)
    mean, rstd, chunk = mean.reshape(-1), rstd.reshape(-1), chunk_rows(len(rows), 16)
    nanoseconds = (0.6 if dresidual is None else 0.8) * x.size
    dx, dweight, dbias = launch(_backward, nanoseconds, drows, rows, weight, mean, rstd, others, chunk)
    return dx.reshape(x.shape), dweight, dbias


@jit(parallel=True)
def _forward(x, weight, bias, eps):
    N, C = x.shape
    out, mean, rstd = aligned_empty_like(x), np.empty(N, x.dtype), np.empty(N, x.dtype)
    zero = x.dtype.type(0)
    for n in prange(N):
        total = zero
        for c in range(C):
            total += x[n, c]
        mu = total / x.dtype.type(C)
        square = zero
        for c in range(C):
            square += (x[n, c] - mu) * (x[n, c] - mu)
        r = x.dtype.type(1.0 / math.sqrt(square / C + eps))
        if not in_range(square, x.itemsize):
            mu, r = _statistics_of_scaled(x[n], eps)
        for c in range(C):
            out[n, c] = (x[n, c] - mu) * r * weight[c] + bias[c]
        mean[n], rstd[n] = mu, r
    return out, mean, rstd


@jit(reorder=False)
def _statistics_of_scaled(row, eps):
    """Mean and 1 / sqrt(variance + eps) of a row whose squares overflow or vanish: divided by its largest number."""
    scale, mean, square = largest_magnitude(row), 0.0, 0.0
    for c in range(row.size):
        mean += np.float64(row[c]) / scale
    mean /= row.size
    for c in range(row.size):
        deviation = np.float64(row[c]) / scale - mean
        square += deviation * deviation
    r = 1.0 / math.hypot(math.sqrt(square / row.size) * scale, math.sqrt(eps))
    return row.dtype.type(mean * scale), row.dtype.type(r)


@jit(parallel=True)
def _backward(dout, x, weight, mean, rstd, dresidual, chunk):
    """dresidual (N, C), or (0, C) for none."""
    N, C = x.shape
    n_chunks = (N + chunk - 1) // chunk
    dx = aligned_empty_like(x)
    dweights, dbiases = np.zeros((n_chunks, C), x.dtype), np.zeros((n_chunks, C), x.dtype)
    zero = x.dtype.type(0)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            mu, r = mean[n], rstd[n]
            along_one, along_xhat = zero, zero  # dxhat's components along (1, ..., 1) and along xhat
            for c in range(C):
                xhat = (x[n, c] - mu) * r
                dxhat = dout[n, c] * weight[c]
                along_one += dxhat
                along_xhat += dxhat * xhat
                dweights[i, c] += dout[n, c] * xhat
                dbiases[i, c] += dout[n, c]
            along_one /= x.dtype.type(C)
            along_xhat /= x.dtype.type(C)
            for c in range(C):
                xhat = (x[n, c] - mu) * r
                dx[n, c] = (dout[n, c] * weight[c] - along_one - xhat * along_xhat) * r
            if len(dresidual) > 0:
                for c in range(C):
                    dx[n, c] += dresidual[n, c]
    dweight, dbias = np.empty(C, x.dtype), np.empty(C, x.dtype)
    sum_chunks(dweights, dweight)
    sum_chunks(dbiases, dbias)
    return dx, dweight, dbias
