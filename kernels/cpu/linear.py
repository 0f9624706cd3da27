"""out = x @ weight.T + bias. The products are BLAS's, shared out among threads here; see `kernels.cpu.blas`."""

import numpy as np
from numba import prange

from kernels.cpu import blas
from kernels.cpu.compile import chunk_rows, jit, launch

_FLOPS_PER_NANOSECOND = 60  # of one thread, roughly


def linear_forward(x, weight, bias):
    """x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty((len(rows), len(weight)), x.dtype)
    shift = np.zeros(0, x.dtype) if bias is None else bias
    _product(rows, np.ascontiguousarray(weight), True, shift, out)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(dout, x, weight, bias):
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias: what needs it is not wanted."""
    rows = np.ascontiguousarray(dout).reshape(-1, dout.shape[-1])  # (N, C)
    dx = dweight = dbias = None
    if weight is not None:
        dx = np.empty((len(rows), weight.shape[1]), dout.dtype)
        _product(rows, np.ascontiguousarray(weight), False, np.zeros(0, dout.dtype), dx)
        dx = dx.reshape(*dout.shape[:-1], weight.shape[1])
    if x is not None:
        dweight = _product_of_transposed(rows, np.ascontiguousarray(x).reshape(-1, x.shape[-1]))
    if bias is not None:
        dbias = launch(_sum_rows, 0.2 * rows.size, rows, chunk_rows(len(rows), 16))
    return dx, dweight, dbias


def _product(a, b, transpose_b, bias, out):
    """out = a @ b (or b.T) + bias, if that is not empty."""
    if not blas.available:
        np.matmul(a, b.T if transpose_b else b, out=out)
        out += bias if bias.size else 0
        return
    work = 2 * a.size * out.shape[1] / _FLOPS_PER_NANOSECOND
    launch(_product_by_rows, work, a, b, transpose_b, bias, out, max(96, -(-len(a) // 64)))


def _product_of_transposed(a, b):
    """a.T @ b. a (N, C), b (N, K) -> (C, K)."""
    if not blas.available:
        return a.T @ b
    out = np.empty((a.shape[1], b.shape[1]), a.dtype)
    launch(_product_by_tiles, 2 * a.size * b.shape[1] / _FLOPS_PER_NANOSECOND, a, b, out)
    return out


@jit(parallel=True)
def _product_by_rows(a, b, transpose_b, bias, out, chunk):
    """`_product`, each task `chunk` rows of a and out; the bias is added while they are in the cache."""
    N = out.shape[0]
    for i in prange((N + chunk - 1) // chunk):
        part = out[i * chunk : (i + 1) * chunk]
        blas.gemm(a[i * chunk : (i + 1) * chunk], b, part, False, transpose_b)
        if bias.size:
            for n in range(part.shape[0]):
                row = part[n]
                for c in range(row.size):
                    row[c] += bias[c]


@jit(parallel=True)
def _product_by_tiles(a, b, out):
    """out (C, K) = a.T @ b, each task a part of out's longer side. The parts depend on the shape alone."""
    C, K = out.shape
    longest = max(C, K)
    n_tasks = 1
    while n_tasks < 64 and longest // (2 * n_tasks) >= (64 if longest <= 256 else 128):
        n_tasks *= 2
    chunk = (longest + n_tasks - 1) // n_tasks
    for i in prange(n_tasks):
        start, stop = i * chunk, min(longest, (i + 1) * chunk)
        if C >= K:
            blas.gemm(a[:, start:stop], b, out[start:stop], True, False)
        else:
            blas.gemm(a, b[:, start:stop], out[:, start:stop], True, False)


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
