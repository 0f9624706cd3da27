"""out = x @ weight.T + bias, and its gradients; the products are those of `kernels.cpu.matmul`."""

import numpy as np
from numba import prange

from kernels.arrays import empty
from kernels.cpu.compile import chunk_rows, jit, launch
from kernels.cpu.matmul import factor, multiply, multiply_factors, nanoseconds, settings


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
    nothing = np.empty((0, 0), dout.dtype)  # compiled code takes it for None
    weights = nothing if weight is None else np.ascontiguousarray(weight)
    inputs = nothing if x is None else np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    dx = nothing if weight is None else empty((len(rows), weights.shape[1]), dout.dtype)
    dweight = nothing if x is None else empty((rows.shape[1], inputs.shape[1]), dout.dtype) if into is None else into
    dbias = np.empty(0 if bias is None else rows.shape[1], dout.dtype)
    work = nanoseconds(rows, weights) + nanoseconds(rows.T, inputs) + 0.2 * len(rows) * dbias.size
    factors = factor(rows), factor(rows.T), factor(inputs), factor(weights)
    chunk = chunk_rows(len(rows), 16)
    launch(_backward, work, *factors, dx, dweight, dbias, False, chunk, *settings(dout.dtype))
    return (
        None if weight is None else dx.reshape(*dout.shape[:-1], weight.shape[1]),
        None if x is None else dweight,
        None if bias is None else dbias,
    )


@jit
def _backward(dout, dout_T, x, weight, dx, dweight, dbias, add, chunk, tiles, lanes, workers):
    """All that is wanted, one after another, without Python in between: meanwhile the other threads might fall asleep.

    add is False; written here, the compiler would make products of their own for that.
    """
    nothing = dbias[:0]
    if dx.size:
        multiply_factors(dout, weight, nothing, add, dx, tiles, lanes, workers)
    if dweight.size:
        multiply_factors(dout_T, x, nothing, add, dweight, tiles, lanes, workers)
    if dbias.size:
        _sum_rows(dout[0], chunk, dbias)


@jit(parallel=True)
def _sum_rows(rows, chunk, total):
    """Column sums: one partial sum per chunk of rows, added up in order."""
    N, C = rows.shape
    n_chunks = (N + chunk - 1) // chunk
    partial = np.zeros((n_chunks, C), rows.dtype)
    for i in prange(n_chunks):
        for n in range(i * chunk, min(N, (i + 1) * chunk)):
            for c in range(C):
                partial[i, c] += rows[n, c]
    total[:] = 0
    for i in range(n_chunks):
        for c in range(C):
            total[c] += partial[i, c]
