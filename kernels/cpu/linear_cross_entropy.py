"""The language model's head and its loss in one, a chunk of tokens at a time: no (N, V) array of logits exists."""

import numpy as np

from kernels.cpu.linear import linear_backward, linear_forward
from kernels.cpu.softmax_cross_entropy import softmax_cross_entropy_backward, softmax_cross_entropy_forward

CHUNK_ROWS = 512  # enough for the products to run at full speed; fixed, so that sums have one order


def linear_cross_entropy_forward(x, weight, targets, ignore_index, reduction, grad_scale, with_grads):
    """Cross-entropy of the logits x @ weight.T. x (..., K), weight (V, K), targets (...).

    -> loss (), dx (..., K), dweight (V, K) for an upstream gradient of grad_scale; None, None without with_grads.
    """
    rows, targets = np.ascontiguousarray(x).reshape(-1, x.shape[-1]), targets.reshape(-1)
    divisor = np.asarray(max(np.count_nonzero(targets != ignore_index), 1) if reduction == "mean" else 1)
    upstream, total, dx, dweight = np.asarray(grad_scale, x.dtype), 0.0, None, None
    if with_grads:
        dx, dweight = np.empty_like(rows), np.zeros(weight.shape, weight.dtype)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        logits = linear_forward(rows[part], weight, None)  # (n, V)
        loss, logsumexp, _ = softmax_cross_entropy_forward(logits, targets[part], ignore_index, "sum")
        total += float(loss)
        if with_grads:
            dlogits = softmax_cross_entropy_backward(
                upstream, logits, targets[part], logsumexp, divisor, ignore_index, True
            )
            dx[part], dweight_part, _ = linear_backward(dlogits, rows[part], weight, None)
            dweight += dweight_part
    loss = np.asarray(total / int(divisor), x.dtype)
    return (loss, dx.reshape(x.shape), dweight) if with_grads else (loss, None, None)


def linear_cross_entropy_backward(dout, dx, dweight, grad_scale):
    """What forward prepared, times dout / grad_scale -> dx, dweight."""
    factor = float(dout) / grad_scale
    return dx * factor, dweight * factor
