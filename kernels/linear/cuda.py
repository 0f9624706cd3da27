"""out = x @ weight.T + bias. The products are cuBLAS's, always of two matrices; the bias and its gradient are ours."""

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, accum_dtype, blocks, contiguous, empty

_add_bias = Kernel("linear/linear.cu", "add_bias")
_chunks = Kernel("linear/linear.cu", "sum_columns_of_chunks")
_sum = Kernel("cuda/column_sums.cu", "column_sums")
_BLOCK = 32, 8  # as in the source
_BIAS_ROWS = 64  # rows for which a block reads the bias once


def linear_forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    out = np.matmul(as_matrix(x), weight.T)
    if bias is not None:
        N, C = out.shape
        grid = blocks(C, _columns(out.dtype)), blocks(N, _BIAS_ROWS)
        _add_bias.launch(grid, _BLOCK, out, contiguous(bias), C, _BIAS_ROWS, N, dtype=out.dtype)
    return out.reshape(*x.shape[:-1], len(weight))


def linear_backward(
    dout: Array, x: Array | None, weight: Array | None, bias: Array | None, into: Array | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """-> dx (..., K), dweight (C, K), dbias (C,). Where weight, x or bias is None, dx, dweight or dbias is None.

    dweight is written into the array `into` where it is given.
    """
    rows = as_matrix(dout)  # (N, C)
    dx = None if weight is None else np.matmul(rows, weight).reshape(*dout.shape[:-1], weight.shape[1])
    dweight = None if x is None else np.matmul(rows.T, as_matrix(x), out=into)
    return dx, dweight, None if bias is None else sum_columns(rows)


def sum_columns(rows: Array) -> Array:
    """rows (N, C) -> (C,), over chunks of rows whose size depends on N alone."""
    N, C = rows.shape
    chunk = max(64, blocks(N, 256))
    n_chunks = blocks(N, chunk)
    partials = empty(rows, (n_chunks, C), accum_dtype(rows.dtype))
    grid = blocks(C, _columns(rows.dtype)), n_chunks
    _chunks.launch(grid, _BLOCK, partials, rows, C, chunk, N, dtype=rows.dtype)
    out = empty(rows, (C,))
    _sum.launch(blocks(C, 32), (32, 16), out, None, partials, n_chunks, C, dtype=rows.dtype)
    return out


def _columns(dtype: np.dtype) -> int:
    """How many columns a block takes: 16 bytes a lane."""
    return 32 * 16 // dtype.itemsize


def as_matrix(x: Array) -> Array:
    """x (..., C) -> (N, C), without gaps."""
    rows = contiguous(x)
    return rows.reshape(rows.size // max(x.shape[-1], 1), x.shape[-1])
