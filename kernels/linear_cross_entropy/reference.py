"""Cross-entropy of a linear layer's logits in plain array code: the reference for the fast kernels."""

import numpy as np

from kernels.arrays import Array
from kernels.linear.reference import linear_backward, linear_forward
from kernels.softmax_cross_entropy.reference import softmax_cross_entropy_backward, softmax_cross_entropy_forward


def linear_cross_entropy_forward(
    x: Array, weight: Array, targets: Array, ignore_index: int, reduction: str, grad_scale: float, with_grads: bool,
    into: Array | None = None,
) -> tuple[Array, Array | None, Array | None]:  # fmt: skip
    """Cross-entropy of the logits x @ weight.T, and its gradients at once. x (..., K), weight (V, K), targets (...).

    -> loss (), dx (..., K), dweight (V, K), for an upstream gradient of grad_scale; None, None without with_grads.
    The fast kernels do this for a chunk of tokens at a time, so that no array of all logits exists.
    dweight is written into the array `into` where it is given: C-contiguous.
    """
    logits = linear_forward(x, weight, None)
    loss, logsumexp, divisor = softmax_cross_entropy_forward(logits, targets, ignore_index, reduction)
    if not with_grads:
        return loss, None, None
    dout = np.asarray(grad_scale, dtype=logits.dtype, like=logits)
    dlogits = softmax_cross_entropy_backward(dout, logits, targets, logsumexp, divisor, ignore_index, True)
    dx, dweight, _ = linear_backward(dlogits, x, weight, None, into)
    return loss, dx, dweight


def linear_cross_entropy_backward(
    dout: Array, dx: Array, dweight: Array, grad_scale: float, overwrite: bool = False
) -> tuple[Array, Array]:
    """Forward's dx and dweight, scaled from grad_scale to dout () -> dx, dweight; in place if `overwrite`."""
    factor = float(dout) / float(grad_scale)
    if not overwrite:
        return dx * factor, dweight * factor
    dx *= factor
    dweight *= factor
    return dx, dweight
