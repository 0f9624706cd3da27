"""Attention in plain array code: the reference for the fast kernels."""

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Array, Shape
from kernels.matmul_precision import rounded
from kernels.philox import derive_key, keep_threshold, philox4x32


def attention_forward(
    q: Array, k: Array, v: Array, scale: float, causal: bool, p: float, seed: int, step: int, stream: int
) -> tuple[Array, Array]:
    """softmax(q k^T scale + mask) v with dropout of probability p on the probabilities, as GPT-2 has it.

    q (B, H, T, D), k and v (B, H, S, D) -> out (B, H, T, D), logsumexp (B, H, T) of the scaled scores.
    causal: query i sees keys 0..i. (T == S is not required without it.)
    """
    scores = _scores(q, k, float(scale), causal)  # (B, H, T, S); NumPy's scalars would widen float32
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    dropped = weights / total * _attention_mask(scores.shape, p, seed, step, stream, q)
    return rounded(dropped) @ rounded(v), (highest + np.log(total))[..., 0]


def attention_backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, logsumexp: Array, scale: float, causal: bool, p: float,
    seed: int, step: int, stream: int, into: Sequence[Array] | None = None,
) -> Sequence[Array]:  # fmt: skip
    """-> dq, dk, dv, shaped like q, k, v; written into the three arrays of `into` where it is given.

    The probabilities are formed again from logsumexp, so forward saves nothing of size T * S.
    """
    probs = np.exp(_scores(q, k, float(scale), causal) - logsumexp[..., None])  # (B, H, T, S)
    mask = _attention_mask(probs.shape, p, seed, step, stream, q)
    dv = rounded(probs * mask).swapaxes(-1, -2) @ rounded(dout)
    dprobs = (rounded(dout) @ rounded(v).swapaxes(-1, -2)) * mask
    # softmax: dscores = probs * (dprobs - sum(probs * dprobs)); that sum equals sum(dout * out)
    dscores = rounded(probs * (dprobs - (dout * out).sum(axis=-1, keepdims=True)) * float(scale))
    dq, dk = dscores @ rounded(k), dscores.swapaxes(-1, -2) @ rounded(q)
    if into is None:
        return dq, dk, dv
    for target, grad in zip(into, (dq, dk, dv), strict=True):
        target[...] = grad
    return into


def _scores(q: Array, k: Array, scale: float, causal: bool) -> Array:
    scores = (rounded(q) @ rounded(k).swapaxes(-1, -2)) * scale  # (B, H, T, S)
    if causal:  # set, never added: no finite score can overpower the mask
        scores[..., ~np.tri(q.shape[2], k.shape[2], dtype=bool, like=scores)] = -np.inf
    return scores


def _attention_mask(shape: Shape, p: float, seed: int, step: int, stream: int, q: Array) -> Array:
    """0 or 1/(1-p) for every (b, h, i, j): lane j % 4 of the counter (j // 4, i, b * H + h, 0). An array like q."""
    if p == 0.0:
        return np.ones_like(q, shape=(1, 1, 1, 1))
    B, H, T, S = shape
    j4, i, bh = np.arange((S + 3) // 4), np.arange(T)[:, None], np.arange(B * H)[:, None, None]
    words = np.stack(philox4x32(j4, i, bh, 0, *derive_key(seed, step, stream)), axis=-1)
    kept = words.reshape(B, H, T, -1)[..., :S] < keep_threshold(p)
    return np.asarray(kept, like=q).astype(q.dtype) * (1.0 / (1.0 - float(p)))
