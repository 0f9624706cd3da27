"""Rows of a table. The backward pass adds rows in an order that depends on the ids alone, so its bits repeat."""

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, threads, vec

_forward = Kernel("embedding/embedding.cu", "embedding_forward")
_count = Kernel("embedding/embedding.cu", "embedding_count")
_lists = Kernel("embedding/embedding.cu", "embedding_lists")
_order = Kernel("embedding/embedding.cu", "embedding_order")
_sum = Kernel("embedding/embedding.cu", "embedding_sum")
_sum_long = Kernel("embedding/embedding.cu", "embedding_sum_long")
_LONG_LIST, _WARPS_PER_LIST = 64, 16  # as in the source


def embedding_forward(weight: Array, ids: Array) -> Array:
    """weight (V, C), ids (...) of integers within 0..V-1 -> (..., C)."""
    C = weight.shape[1]
    out = empty(weight, (*ids.shape, C))
    n_threads = threads(blocks(C, vec(weight.dtype)), 256)
    _forward.launch(ids.size, n_threads, out, contiguous(weight), _as_list(ids), C, dtype=weight.dtype)
    return out


def embedding_backward(dout: Array, ids: Array, num_embeddings: int, into: Array | None = None) -> Array:
    """-> dweight (V, C). Rows of a repeated id add up in the order of the tokens; a long list in 16 parts.

    Where the array `into` is given, dweight is added to it, and it is returned.
    """
    N, V, C, dtype = ids.size, num_embeddings, dout.shape[-1], dout.dtype
    check_shapes("embedding_backward", dout=(dout, (*ids.shape, C)))
    dout, ids, dweight = contiguous(dout), _as_list(ids), empty(dout, (V, C))
    order, lists, used = _occurrences(ids, V, dtype)
    tiles = blocks(C, 32 * vec(dtype))  # of columns
    long_ids = lists[2 * V :]
    _sum.launch((blocks(V, 8), tiles), (32, 8), dweight, dout, order, lists, V, C, dtype=dtype)
    most = N // (_LONG_LIST + 1)  # the host does not know how many long lists there are
    _sum_long.launch((most, tiles), (32, _WARPS_PER_LIST), dweight, dout, order, lists, long_ids, used, C, dtype=dtype)
    if into is None:
        return dweight
    into += dweight
    return into


def _occurrences(ids: Array, V: int, dtype: np.dtype) -> tuple[Array, Array, Array]:
    """ids (N,) -> order (N,): the tokens, list after list; lists (3 V,): begin and length of each id, the long ones;
    used (2,): length of all lists, number of long ones. All int32. dtype: only says which compilation is used."""
    N = ids.size
    chunk = max(1024, blocks(N, 32))
    K = max(1, blocks(N, chunk))
    order, counts, lists, used = (empty(ids, shape, np.int32) for shape in ((N,), (K, V), (3 * V,), (2,)))
    _count.launch(K, threads(V, 1024), counts, used, ids, N, V, chunk, dtype=dtype)
    _lists.launch(blocks(V, 256), 256, lists, lists[2 * V :], counts, used, V, K, dtype=dtype)
    _order.launch(K, 32, order, counts, lists, ids, N, V, chunk, dtype=dtype)
    return order, lists, used


def _as_list(ids: Array) -> Array:
    """ids (...) of integers -> (N,) int64."""
    return contiguous(ids).reshape(-1).astype(np.int64, copy=False)
