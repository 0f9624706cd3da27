"""The language model's head and its loss in one kernel, a chunk of tokens at a time: no (N, V) array exists."""

import numpy as np

from kernels import matmul_precision
from kernels.arrays import Array, empty
from kernels.cpu.matmul import multiply
from kernels.softmax_cross_entropy.cpu import softmax_cross_entropy_backward, softmax_cross_entropy_forward

CHUNK_ROWS = 512  # of logits: enough for products at full speed; fixed, so that sums have one order
CHUNK_ROWS_BFLOAT16 = 384  # where operands are rounded to bfloat16, and everything else takes less memory


def linear_cross_entropy_forward(
    x: Array, weight: Array, targets: Array, ignore_index: int, reduction: str, grad_scale: float, with_grads: bool,
    into: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:  # fmt: skip
    """Cross-entropy of the logits x @ weight.T. x (..., K), weight (V, K), targets (...).

    -> loss (), dx (..., K), dweight (V, K) for an upstream gradient of grad_scale; None, None without with_grads.
    dweight is written into the array `into` where it is given: C-contiguous.
    """
    rows, targets = np.ascontiguousarray(x).reshape(-1, x.shape[-1]), targets.reshape(-1)
    weight = np.ascontiguousarray(weight)
    divisor = np.asarray(max(np.count_nonzero(targets != ignore_index), 1) if reduction == "mean" else 1)
    upstream, total = np.asarray(grad_scale, x.dtype), 0.0
    dx = empty(rows.shape, rows.dtype) if with_grads else None
    dweight = None if not with_grads else empty(weight.shape, weight.dtype) if into is None else into
    if dweight is not None and len(rows) == 0:
        dweight[...] = 0
    chunk_rows = CHUNK_ROWS_BFLOAT16 if matmul_precision.rounds(x.dtype) else CHUNK_ROWS
    logits = empty((min(chunk_rows, len(rows)), len(weight)), x.dtype)  # of one chunk after another
    for start in range(0, len(rows), chunk_rows):
        part, labels = rows[start : start + chunk_rows], targets[start : start + chunk_rows]
        here = multiply(part, weight.T, logits[: len(part)])  # (n, V)
        loss, logsumexp, _ = softmax_cross_entropy_forward(here, labels, ignore_index, "sum")
        total += float(loss)
        if dx is not None and dweight is not None:
            dlogits = softmax_cross_entropy_backward(upstream, here, labels, logsumexp, divisor, ignore_index, True)
            multiply(dlogits, weight, dx[start : start + chunk_rows])
            multiply(dlogits.T, part, dweight, add=start > 0)
    loss = np.asarray(total / int(divisor), x.dtype)
    return (loss, None, None) if dx is None else (loss, dx.reshape(x.shape), dweight)


def linear_cross_entropy_backward(
    dout: Array, dx: Array, dweight: Array, grad_scale: float, overwrite: bool = False
) -> tuple[Array, Array]:
    """Forward's dx and dweight, scaled from grad_scale to dout () -> dx, dweight; in place if `overwrite`."""
    factor = float(dout) / float(dx.dtype.type(grad_scale))
    if not overwrite:
        return dx * factor, dweight * factor
    if factor != 1.0:
        dx *= factor
        dweight *= factor
    return dx, dweight
