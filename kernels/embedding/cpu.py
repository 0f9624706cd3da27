"""Rows of a table. The backward pass adds rows in the order of the ids, so its bits always repeat."""

import numpy as np
from numba import prange

from kernels.arrays import Array
from kernels.cpu.compile import jit, launch
from kernels.cpu.row_sums import LONGEST

_COLUMNS = 64  # of the table in a task: no two threads add to the same numbers


def embedding_forward(weight: Array, ids: Array) -> Array:
    """weight (V, C), ids (...) of integers -> (..., C)."""
    return weight.take(ids, axis=0)


def embedding_backward(dout: Array, ids: Array, num_embeddings: int, into: Array | None = None) -> Array:
    """-> dweight (V, C). The rows of repeated ids are summed, in the order of the ids.

    Where the array `into` is given, dweight is added to it, and it is returned; only its rows of ids change.
    """
    C = dout.shape[-1]
    dweight = np.zeros((num_embeddings, C), dout.dtype) if into is None else into
    rows, ids = np.ascontiguousarray(dout).reshape(-1, C), np.ascontiguousarray(ids).reshape(-1)
    launch(_add_sums, 1.0 * dout.size, rows, ids, np.argsort(ids, kind="stable"), dweight)
    return dweight


@jit(parallel=True)
def _add_sums(dout, ids, order, dweight):
    """order: positions sorted by id. The rows of equal ids are summed first, then the sum is added to dweight.

    A long list is summed in stretches: the error of adding one by one grows with the number of rows.
    """
    C = dout.shape[1]
    for block in prange((C + _COLUMNS - 1) // _COLUMNS):
        first, last = block * _COLUMNS, min(C, (block + 1) * _COLUMNS)
        total, stretch, begin = np.zeros(_COLUMNS, dout.dtype), np.zeros(_COLUMNS, dout.dtype), 0
        for i in range(order.size):
            row, source = dweight[ids[order[i]], first:last], dout[order[i], first:last]
            for c in range(last - first):
                stretch[c] += source[c]
            last_of_id = i + 1 == order.size or ids[order[i + 1]] != ids[order[i]]
            if last_of_id or i + 1 - begin == LONGEST:
                for c in range(last - first):
                    total[c] += stretch[c]
                    stretch[c] = 0
                begin = i + 1
            if last_of_id:
                for c in range(last - first):
                    row[c] += total[c]
                    total[c] = 0
