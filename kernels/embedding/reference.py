"""Embedding in plain array code: the reference for the fast kernels."""

import numpy as np

from kernels.arrays import Array


def embedding_forward(weight: Array, ids: Array) -> Array:
    """Rows of a table. weight (V, C), ids (...) of integers -> (..., C)."""
    return weight[ids]


def embedding_backward(dout: Array, ids: Array, num_embeddings: int, into: Array | None = None) -> Array:
    """-> dweight (V, C). The rows of repeated ids are summed, in the order of the ids.

    Where the array `into` is given, dweight is added to it, and it is returned.
    """
    sums = np.zeros((num_embeddings, dout.shape[-1]), np.float64, like=dout)  # an id may occur very often
    np.add.at(sums, ids.reshape(-1), dout.reshape(-1, dout.shape[-1]))
    dweight = sums.astype(dout.dtype, copy=False)
    return dweight if into is None else np.add(into, dweight, out=into)
