"""out = x @ weight.T + bias, and its gradients; the products are those of `kernels.cpu.matmul`."""

import numpy as np
from numba import prange

from kernels.arrays import empty
from kernels.cpu.compile import chunk_rows, jit, launch
from kernels.cpu.matmul import multiply


def linear_forward(x, weight, bias):
    """x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = empty((len(rows), len(weight)), x.dtype)
    multiply(rows, np.ascontiguousarray(weight).T, out, bias)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(dout, x, weight, bias, into=None):
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias: what needs it is not wanted.

    dweight is written into the array `into` where it is given: C-contiguous.
    """
    rows = np.ascontiguousarray(dout).reshape(-1, dout.shape[-1])  # (N, C)
    dx = dweight = dbias = None
    if weight is not None:
        dx = multiply(rows, np.ascontiguousarray(weight), empty((len(rows), weight.shape[1]), dout.dtype))
        dx = dx.reshape(*dout.shape[:-1], weight.shape[1])
    if x is not None:
        inputs = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        dweight = empty((rows.shape[1], inputs.shape[1]), dout.dtype) if into is None else into
        multiply(rows.T, inputs, dweight)
    if bias is not None:
        dbias = launch(_sum_rows, 0.2 * rows.size, rows, chunk_rows(len(rows), 16))
    return dx, dweight, dbias


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
