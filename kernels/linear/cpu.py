"""out = x @ weight.T + bias, and its gradients; the products are those of `kernels.cpu.matmul`."""

import numpy as np
from numba import prange

from kernels.arrays import empty
from kernels.cpu.compile import chunk_rows, jit, launch
from kernels.cpu.matmul import multiply, multiply_factors, nanoseconds, settings


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
    w = nothing if weight is None else np.ascontiguousarray(weight)
    inputs = nothing if x is None else np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    dx = nothing if weight is None else empty((len(rows), w.shape[1]), dout.dtype)
    dweight = nothing if x is None else empty((rows.shape[1], inputs.shape[1]), dout.dtype) if into is None else into
    dbias = np.empty(0 if bias is None else rows.shape[1], dout.dtype)
    work = max(nanoseconds(rows, w), nanoseconds(rows.T, inputs), 0.2 * len(rows) * dbias.size)
    chunk = chunk_rows(len(rows), 16)
    launch(_backward, work, rows, inputs, w, dx, dweight, dbias, (False, True), chunk, *settings(dout.dtype))
    return (
        None if weight is None else dx.reshape(*dout.shape[:-1], w.shape[1]),
        None if x is None else dweight,
        None if bias is None else dbias,
    )


@jit
def _backward(dout, x, weight, dx, dweight, dbias, no_yes, chunk, tiles, lanes, workers):
    """All that is wanted, one after another, without Python in between: meanwhile the other threads might fall asleep.

    no_yes: False and True; if they were written here, the compiler would make products of their own for each.
    """
    (no, yes), no_bias = no_yes, dbias[:0]
    multiply_factors((dout, no), (weight, no), no_bias, no, dx, tiles, lanes, workers)
    multiply_factors((dout, yes), (x, no), no_bias, no, dweight, tiles, lanes, workers)
    if dbias.size:
        _sum_rows(dout, chunk, dbias)


@jit(parallel=True)
def _sum_rows(rows, chunk, total):
    """total (C,) = column sums of rows (N, C): one partial sum per chunk of rows, added up in order."""
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
