"""Rows of a table. The backward pass adds rows in the order of the ids, so its bits always repeat."""

import numpy as np
from numba import prange

from kernels.cpu.compile import jit, launch

_COLUMNS = 64  # a thread owns this many columns of the table, and so never meets another


def embedding_forward(weight, ids):
    """weight (V, C), ids (...) of integers -> (..., C)."""
    return weight.take(ids, axis=0)


def embedding_backward(dout, ids, num_embeddings):
    """-> dweight (V, C). Repeated ids add up, in the order in which they stand."""
    C = dout.shape[-1]
    dweight = np.zeros((num_embeddings, C), dout.dtype)
    rows = np.ascontiguousarray(dout).reshape(-1, C)
    launch(_scatter_add, 1.0 * dout.size, rows, np.ascontiguousarray(ids).reshape(-1), dweight)
    return dweight


@jit(parallel=True)
def _scatter_add(dout, ids, dweight):
    C = dout.shape[1]
    for block in prange((C + _COLUMNS - 1) // _COLUMNS):
        for n in range(dout.shape[0]):
            row = ids[n]
            for c in range(block * _COLUMNS, min(C, (block + 1) * _COLUMNS)):
                dweight[row, c] += dout[n, c]
