"""AdamW in plain array code: the reference for the fast kernels."""

import math

import numpy as np

from kernels.arrays import Array
from kernels.cast.reference import cast


def adamw_step(
    param: Array, grad: Array, m: Array, v: Array, step: int, learning_rate: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, grad_scale: float,
) -> None:  # fmt: skip
    """One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), in place on param, m and v; all of shape (n,).

    step counts from 1. grad_scale multiplies the gradient first (clipping); decay is decoupled from it.
    """
    learning_rate, beta1, beta2, eps, weight_decay, grad_scale = map(
        float, (learning_rate, beta1, beta2, eps, weight_decay, grad_scale)
    )  # NumPy's scalars would widen float32
    g = grad * grad_scale
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * g * g
    mhat = m / (1.0 - beta1**step)
    vhat = v / (1.0 - beta2**step)
    param *= 1.0 - learning_rate * weight_decay
    param -= learning_rate * mhat / (np.sqrt(vhat) + eps)


def fused_adamw_step(
    param: Array, grad: Array, m: Array, v: Array, low: Array | None, step: Array, ends: Array, decays: Array,
    learning_rate: float, beta1: float, beta2: float, eps: float, norm: Array | float, max_norm: float,
) -> None:  # fmt: skip
    """One step of AdamW over a flat arena, in place on param, m and v (n,), float32 or float64.

    grad (n,) of that dtype or a 16-bit one; low (n,): a 16-bit copy of param kept up to date, or None. step (): int64,
    how many steps were taken before, counted up here. Segment s of the arena ends before ends[s] and decays by
    decays[s]; the last one ends at n. norm (): the gradient's norm, float64; with max_norm > 0 the gradient is
    multiplied by min(1, max_norm / (norm + 1e-6)). If norm is not finite nothing changes, step included.
    """
    if not math.isfinite(norm):
        return
    step[...] += 1
    clip = min(1.0, max_norm / (float(norm) + 1e-6)) if max_norm > 0 else 1.0
    g, start = grad.astype(param.dtype, copy=False), 0
    for end, decay in zip(ends.tolist(), decays.tolist(), strict=True):
        s = slice(start, end)
        adamw_step(param[s], g[s], m[s], v[s], int(step), learning_rate, beta1, beta2, eps, decay, clip)
        start = end
    if low is not None:
        low[...] = cast(param, low.dtype)
