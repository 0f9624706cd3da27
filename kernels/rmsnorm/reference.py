"""RMSNorm in plain array code: the reference for the fast kernels."""

import numpy as np


def rmsnorm_forward(x, weight, eps):
    """Divide the last axis by its root mean square (Zhang & Sennrich 2019). x (..., C), weight (C,).

    -> out (..., C), rstd (...): 1 / sqrt(mean of squares + eps).
    """
    rstd = 1.0 / np.sqrt((x * x).mean(axis=-1) + eps)
    return x * rstd[..., None] * weight, rstd


def rmsnorm_backward(dout, x, weight, rstd):
    """-> dx (..., C), dweight (C,)."""
    xhat = x * rstd[..., None]
    dxhat = dout * weight
    # x moves its root mean square too: take out dxhat's component along xhat
    dx = (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) * rstd[..., None]
    return dx, (dout * xhat).sum(axis=tuple(range(x.ndim - 1)))
