"""RMSNorm over the last axis, one row at a time: each row is read once and stays in cache."""

import math

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.aligned_allocation import aligned_empty_like
from kernels.cpu.compile import jit, launch
from kernels.cpu.row_sums import chunk_rows, sum_chunks
from kernels.cpu.squares import in_range, largest_magnitude


def rmsnorm_forward(x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """x (..., C), weight (C,) -> out (..., C), rstd (...)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out, rstd = launch(_forward, 0.4 * x.size, rows, weight, eps)
    return out.reshape(x.shape), rstd.reshape(x.shape[:-1])


def rmsnorm_backward(dout: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    """-> dx (..., C), dweight (C,)."""
    C = x.shape[-1]
    rows, drows = np.ascontiguousarray(x).reshape(-1, C), np.ascontiguousarray(dout).reshape(-1, C)
    dx, dweight = launch(_backward, 0.5 * x.size, drows, rows, weight, rstd.reshape(-1), chunk_rows(len(rows), 16))
    return dx.reshape(x.shape), dweight


@jit(parallel=True)
def _forward(x, weight, eps):
    N, C = x.shape
    out, rstd = aligned_empty_like(x), np.empty(N, x.dtype)
    zero = x.dtype.type(0)
    for n in prange(N):
        square = zero
        for c in range(C):
            square += x[n, c] * x[n, c]
        r = x.dtype.type(1.0 / math.sqrt(square / C + eps))
        if not in_range(square, x.itemsize):
            r = _rstd_of_scaled(x[n], eps)
        for c in range(C):
            out[n, c] = x[n, c] * r * weight[c]
        rstd[n] = r
    return out, rstd


@jit(reorder=False)
def _rstd_of_scaled(row, eps):
    """1 / sqrt(mean of squares + eps) of a row whose squares overflow or vanish: divided by its largest number."""
    scale, square = largest_magnitude(row), 0.0
    for c in range(row.size):
        scaled = np.float64(row[c]) / scale
        square += scaled * scaled
    return row.dtype.type(1.0 / math.hypot(math.sqrt(square / row.size) * scale, math.sqrt(eps)))


@jit(parallel=True)
def _backward(dout, x, weight, rstd, chunk):
    N, C = x.shape
    n_chunks = (N + chunk - 1) // chunk
    dx, dweights = aligned_empty_like(x), np.zeros((n_chunks, C), x.dtype)
    zero = x.dtype.type(0)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            r, along_xhat = rstd[n], zero  # dxhat's component along xhat
            for c in range(C):
                xhat = x[n, c] * r
                along_xhat += dout[n, c] * weight[c] * xhat
                dweights[i, c] += dout[n, c] * xhat
            along_xhat /= x.dtype.type(C)
            for c in range(C):
                dx[n, c] = (dout[n, c] * weight[c] - x[n, c] * r * along_xhat) * r
    dweight = np.empty(C, x.dtype)
    sum_chunks(dweights, dweight)
    return dx, dweight
