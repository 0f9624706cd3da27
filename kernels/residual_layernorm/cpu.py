"""The residual sum and the layer normalisation behind it, one row at a time: the sum is still in cache for the norm."""

import math

import numpy as np
from numba import prange

from kernels.cpu.aligned_allocation import aligned_empty_like
from kernels.cpu.compile import chunk_rows, jit, launch


def residual_layernorm_forward(x, residual, weight, bias, eps):
    """x, residual (..., C), weight (C,), bias (C,) or None -> total, out (..., C), mean, rstd (...)."""
    C = x.shape[-1]
    rows, others = np.ascontiguousarray(x).reshape(-1, C), np.ascontiguousarray(residual).reshape(-1, C)
    shift = np.zeros_like(weight) if bias is None else bias
    total, out, mean, rstd = launch(_forward, 0.7 * x.size, rows, others, weight, shift, eps)
    return total.reshape(x.shape), out.reshape(x.shape), mean.reshape(x.shape[:-1]), rstd.reshape(x.shape[:-1])


def residual_layernorm_backward(dout, dtotal, total, weight, mean, rstd):
    """-> dx (..., C), the gradient of x and of residual alike, dweight (C,), dbias (C,). dtotal may be None."""
    C = total.shape[-1]
    rows, drows = np.ascontiguousarray(total).reshape(-1, C), np.ascontiguousarray(dout).reshape(-1, C)
    others = np.empty((0, C), total.dtype) if dtotal is None else np.ascontiguousarray(dtotal).reshape(-1, C)
    mean, rstd, chunk = mean.reshape(-1), rstd.reshape(-1), chunk_rows(len(rows), 16)
    dx, dweight, dbias = launch(_backward, 0.8 * total.size, drows, others, rows, weight, mean, rstd, chunk)
    return dx.reshape(total.shape), dweight, dbias


@jit(parallel=True)
def _forward(x, residual, weight, bias, eps):
    N, C = x.shape
    total, out, mean, rstd = aligned_empty_like(x), aligned_empty_like(x), np.empty(N, x.dtype), np.empty(N, x.dtype)
    zero = x.dtype.type(0)
    for n in prange(N):
        row_sum = zero
        for c in range(C):
            total[n, c] = x[n, c] + residual[n, c]
            row_sum += total[n, c]
        mu = row_sum / x.dtype.type(C)
        square = zero
        for c in range(C):
            square += (total[n, c] - mu) * (total[n, c] - mu)
        r = x.dtype.type(1.0 / math.sqrt(square / C + eps))
        for c in range(C):
            out[n, c] = (total[n, c] - mu) * r * weight[c] + bias[c]
        mean[n], rstd[n] = mu, r
    return total, out, mean, rstd


@jit(parallel=True)
def _backward(dout, dtotal, total, weight, mean, rstd, chunk):
    """dtotal (N, C), or (0, C) for none."""
    N, C = total.shape
    n_chunks = (N + chunk - 1) // chunk
    dx = aligned_empty_like(total)
    dweights, dbiases = np.zeros((n_chunks, C), total.dtype), np.zeros((n_chunks, C), total.dtype)
    zero = total.dtype.type(0)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            mu, r = mean[n], rstd[n]
            along_one, along_xhat = zero, zero  # dxhat's components along (1, ..., 1) and along xhat
            for c in range(C):
                xhat = (total[n, c] - mu) * r
                dxhat = dout[n, c] * weight[c]
                along_one += dxhat
                along_xhat += dxhat * xhat
                dweights[i, c] += dout[n, c] * xhat
                dbiases[i, c] += dout[n, c]
            along_one /= total.dtype.type(C)
            along_xhat /= total.dtype.type(C)
            for c in range(C):
                xhat = (total[n, c] - mu) * r
                dx[n, c] = (dout[n, c] * weight[c] - along_one - xhat * along_xhat) * r
            if len(dtotal) > 0:
                for c in range(C):
                    dx[n, c] += dtotal[n, c]
    dweight, dbias = np.zeros(C, total.dtype), np.zeros(C, total.dtype)
    for i in range(n_chunks):
        for c in range(C):
            dweight[c] += dweights[i, c]
            dbias[c] += dbiases[i, c]
    return dx, dweight, dbias
