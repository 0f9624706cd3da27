"""out = x @ weight.T + bias. The products are BLAS's; only the passes around them are compiled here."""

import numpy as np
from numba import prange

from kernels.cpu.compile import chunk_rows, jit


def linear_forward(x, weight, bias):
    """x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    out = x.reshape(-1, x.shape[-1]) @ weight.T  # (N, C)
    if bias is not None:
        _add_rows(out, bias)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(dout, x, weight, bias):
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias: what needs it is not wanted."""
    rows = dout.reshape(-1, dout.shape[-1])  # (N, C)
    dx = None if weight is None else (rows @ weight).reshape(*dout.shape[:-1], weight.shape[1])
    dweight = None if x is None else rows.T @ x.reshape(-1, x.shape[-1])
    dbias = None if bias is None else _sum_rows(np.ascontiguousarray(rows), chunk_rows(len(rows), 16))
    return dx, dweight, dbias


@jit(parallel=True)
def _add_rows(out, bias):
    for n in prange(out.shape[0]):
        for c in range(out.shape[1]):
            out[n, c] += bias[c]


@jit(parallel=True)
def _sum_rows(rows, chunk):
    """Column sums: one partial sum per chunk of rows, added up in order."""
    N, C = rows.shape
    n_chunks = (N + chunk - 1) // chunk
    partial = np.zeros((n_chunks, C), rows.dtype)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            for c in range(C):
                partial[i, c] += rows[n, c]
    total = np.zeros(C, rows.dtype)
    for i in range(n_chunks):
        for c in range(C):
            total[c] += partial[i, c]
    return total
