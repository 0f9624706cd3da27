"""RMSNorm in plain array code: the reference for the fast kernels."""

import math

import numpy as np

from kernels.arrays import Array, accurate_sum, row_scale


def rmsnorm_forward(x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """Divide the last axis by its root mean square (Zhang & Sennrich 2019). x (..., C), weight (C,).

    -> out (..., C), rstd (...): 1 / sqrt(mean of squares + eps).
    """
    scale = row_scale(x)
    scaled = x / scale
    root_mean_square = np.sqrt((scaled * scaled).mean(axis=-1, keepdims=True)) * scale
    rstd = 1.0 / np.hypot(root_mean_square, math.sqrt(eps))
    return scaled * (scale * rstd) * weight, rstd[..., 0]


def rmsnorm_backward(dout: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    """-> dx (..., C), dweight (C,)."""
    xhat = x * rstd[..., None]
    dxhat = dout * weight
    # x moves its root mean square too: take out dxhat's component along xhat
    dx = (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) * rstd[..., None]
    return dx, accurate_sum(dout * xhat, tuple(range(x.ndim - 1)))
