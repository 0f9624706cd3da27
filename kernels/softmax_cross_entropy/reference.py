"""Softmax cross-entropy in plain array code: the reference for the fast kernels."""

import numpy as np

from kernels.arrays import Array


def softmax_cross_entropy_forward(
    logits: Array, targets: Array, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array]:
    """-log softmax(logits)[target], over all rows whose target is not ignore_index.

    logits (..., V), targets (...) of integers, reduction "mean" or "sum"
    -> loss (), logsumexp (..., 2), divisor (): the number of rows that count, or 1 for "sum".
    logsumexp: each row's largest logit, and log(sum(exp(logits - largest))). Their sum, rounded, would lack the digits
    that a difference from other large logits needs.
    With no row that counts the loss is 0 (and so is its gradient), not NaN.
    """
    highest = logits.max(axis=-1)
    log_sum = np.log(np.exp(logits - highest[..., None]).sum(axis=-1))
    counted = targets != ignore_index
    chosen = np.take_along_axis(logits, np.where(counted, targets, 0)[..., None], axis=-1)[..., 0]
    divisor = max(int(counted.sum()), 1) if reduction == "mean" else 1
    loss = np.where(counted, (highest - chosen) + log_sum, 0.0).sum(dtype=np.float64) / divisor
    logsumexp = np.stack([highest, log_sum], axis=-1)
    return np.asarray(loss, dtype=logits.dtype, like=logits), logsumexp, np.asarray(divisor, like=logits)


def softmax_cross_entropy_backward(
    dout: Array, logits: Array, targets: Array, logsumexp: Array, divisor: Array, ignore_index: int, overwrite: bool
) -> Array:
    """-> dlogits (..., V) = (softmax(logits) - onehot(target)) * dout / divisor, 0 in ignored rows.

    dout (). overwrite: write it over `logits`, so that no second array of that size exists.
    """
    dlogits = logits if overwrite else np.empty(logits.shape, logits.dtype, like=logits)
    highest, log_sum = logsumexp[..., :1], logsumexp[..., 1:]
    np.exp((logits - highest) - log_sum, out=dlogits)
    counted = targets != ignore_index
    chosen = np.where(counted, targets, 0)[..., None]  # (..., 1)
    np.put_along_axis(dlogits, chosen, np.take_along_axis(dlogits, chosen, axis=-1) - 1.0, axis=-1)
    dlogits *= np.where(counted, float(dout) / float(divisor), 0.0).astype(logits.dtype)[..., None]
    return dlogits
