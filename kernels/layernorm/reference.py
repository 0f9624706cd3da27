"""Layer normalisation in plain array code: the reference for the fast kernels."""

import math

import numpy as np

from kernels.arrays import Array, accurate_sum, row_scale


def layernorm_forward(x: Array, weight: Array, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Normalise the last axis (Ba et al. 2016). x (..., C), weight (C,), bias (C,) or None.

    -> out (..., C), mean (...), rstd (...): 1 / sqrt(variance + eps).
    """
    scale = row_scale(x)
    scaled = x / scale
    mean = scaled.mean(axis=-1, keepdims=True)
    centred = scaled - mean
    deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True)) * scale
    rstd = 1.0 / np.hypot(deviation, math.sqrt(eps))
    out = centred * (scale * rstd) * weight
    if bias is not None:
        out += bias
    return out, (mean * scale)[..., 0], rstd[..., 0]


def layernorm_backward(
    dout: Array, x: Array, weight: Array, mean: Array, rstd: Array, dresidual: Array | None = None
) -> tuple[Array, Array, Array]:
    """-> dx (..., C), dweight (C,), dbias (C,).

    dresidual (..., C): the gradient of x through a residual connection past the norm; it is added to dx.
    """
    xhat = (x - mean[..., None]) * rstd[..., None]
    dxhat = dout * weight
    # x moves mean and variance too: take out dxhat's mean and its component along xhat
    dx = dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
    dx *= rstd[..., None]
    if dresidual is not None:
        dx += dresidual
    leading = tuple(range(x.ndim - 1))
    return dx, accurate_sum(dout * xhat, leading), accurate_sum(dout, leading)
