"""The language model's head and its loss in one, a chunk of tokens at a time (Liger-Kernel's way, arXiv 2410.10989).

All logits of a batch, (N, V), are the largest array of a training step. Here at most CHUNK_ROWS rows of them exist
at a time. Forward also computes their gradient, so backward only rescales.
"""

import numpy as np

from kernels.arrays import Array
from kernels.cast.cuda import cast
from kernels.cuda.launch import Kernel, accum_dtype, blocks, empty
from kernels.linear.cuda import as_matrix
from kernels.softmax_cross_entropy.cuda import (
    as_targets,
    count_targets,
    softmax_cross_entropy_in_place,
    sum_losses,
)

# With this many rows the sums over chunks, 12 bytes a weight and chunk, take little time beside the products'
# 6 * CHUNK_ROWS operations. Fixed, so that the order of sums depends on nothing.
CHUNK_ROWS = 2048
_accumulate = Kernel("linear_cross_entropy/accumulate.cu", "accumulate")
_rescale = Kernel("linear_cross_entropy/accumulate.cu", "rescale")
_THREADS = 256


def linear_cross_entropy_forward(
    x: Array, weight: Array, targets: Array, ignore_index: int, reduction: str, grad_scale: float, with_grads: bool,
    into: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:  # fmt: skip
    """Cross-entropy of the logits x @ weight.T. x (..., K), weight (V, K), targets (...).

    -> loss (), dx (..., K), dweight (V, K) for an upstream gradient of grad_scale; None, None without with_grads.
    dweight is written into the array `into` where it is given: C-contiguous.
    """
    rows, targets = as_matrix(x), as_targets(targets)
    divisor = count_targets(targets, ignore_index, reduction, x.dtype)
    losses = empty(rows, targets.shape, np.float64)
    dx = empty(rows, rows.shape) if with_grads else None
    total: Array | None = None
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, min(len(rows), start + CHUNK_ROWS))
        logits = np.matmul(rows[part], weight.T)  # (n, V)
        softmax_cross_entropy_in_place(losses[part], logits, targets[part], divisor, ignore_index, grad_scale)
        if dx is not None:
            np.matmul(logits, weight, out=dx[part])
            total = _add(total, np.matmul(logits.T, rows[part]))
    loss = sum_losses(losses, divisor, x.dtype)
    if dx is None:
        return loss, None, None
    dweight = np.zeros_like(weight) if total is None else cast(total, weight.dtype)
    if into is not None:
        into[...] = dweight
        dweight = into
    return loss, dx.reshape(x.shape), dweight


def linear_cross_entropy_backward(
    dout: Array, dx: Array, dweight: Array, grad_scale: float, overwrite: bool = False
) -> tuple[Array, Array]:
    """What forward prepared, times dout / grad_scale -> dx, dweight; written over them if `overwrite`."""
    return _scaled(dx, dout, grad_scale, overwrite), _scaled(dweight, dout, grad_scale, overwrite)


def _add(total: Array | None, product: Array) -> Array:
    """total + product in the dtype of sums, written into total; total None: 0."""
    first = total is None
    if total is None:
        total = empty(product, product.shape, accum_dtype(product.dtype))
    per_block = _THREADS * 16 // total.dtype.itemsize
    _accumulate.launch(
        blocks(total.size, per_block), _THREADS, total, product, int(first), total.size, dtype=product.dtype
    )
    return total


def _scaled(x: Array, dout: Array, grad_scale: float, overwrite: bool) -> Array:
    out = x if overwrite else empty(x, x.shape)
    dout = dout.astype(accum_dtype(x.dtype), copy=False)
    per_block = _THREADS * 16 // x.dtype.itemsize
    _rescale.launch(blocks(x.size, per_block), _THREADS, out, x, dout, grad_scale, x.size, dtype=x.dtype)
    return out
