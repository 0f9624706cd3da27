"""out = x @ weight.T + bias, and its gradients; the products are those of `kernels.cpu.matmul`."""

import numpy as np
from numba import prange

from kernels.arrays import Array, empty
from kernels.cpu.compile import jit, launch
from kernels.cpu.matmul import multiply, multiply_operands, nanoseconds, settings
from kernels.cpu.row_sums import chunk_rows, sum_chunks


def linear_forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = empty((len(rows), len(weight)), x.dtype)
    multiply(rows, np.ascontiguousarray(weight).T, out, bias)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(
    dout: Array, x: Array | None, weight: Array | None, bias: Array | None, into: Array | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias: the gradient that needs it is not formed.

    dweight is written into the array `into` where it is given: C-contiguous.
    """
    rows = np.ascontiguousarray(dout).reshape(-1, dout.shape[-1])  # (N, C)
    none = np.empty((0, 0), dout.dtype)  # None, as an array: compiled code has one type for each argument
    w = none if weight is None else np.ascontiguousarray(weight)
    inputs = none if x is None else np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    dx = none if weight is None else empty((len(rows), w.shape[1]), dout.dtype)
    dweight = none if x is None else empty((rows.shape[1], inputs.shape[1]), dout.dtype) if into is None else into
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
def _backward(dout, x, weight, dx, dweight, dbias, constants, chunk, config, lanes, workers):
    """The gradients that are needed, in one call: during a return to Python the other threads might fall asleep.

    constants: False and True. For constants that are written here, the compiler would compile the product again.
    """
    (false, true), no_bias = constants, dbias[:0]
    multiply_operands((dout, false), (weight, false), no_bias, false, dx, config, lanes, workers)
    multiply_operands((dout, true), (x, false), no_bias, false, dweight, config, lanes, workers)
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
    sum_chunks(partial, total)
