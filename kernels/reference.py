"""Every kernel in plain array code: the oracle for the fast ones, and the ones to step through.

Written to be read beside the formula: nothing is fused, blocked or reused. Shapes are in the docstrings;
the letters are explained in `kernels/__init__.py`.
"""

import math

import numpy as np

from kernels.matmul_precision import rounded
from kernels.philox import derive_key, keep_threshold, philox4x32, random_bits

# ---------------------------------------------------------------------------------------------- linear


def linear_forward(x, weight, bias):
    """out = x @ weight.T + bias. x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    rows = x.reshape(-1, x.shape[-1])  # one large product instead of one per batch row
    out = rounded(rows) @ rounded(weight).T
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(dout, x, weight, bias, into=None):
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias means: what needs it is not wanted.

    dx needs `weight`, dweight needs `x`, dbias is wanted if `bias` is not None. dweight is written into the array
    `into` where it is given.
    """
    rows = dout.reshape(-1, dout.shape[-1])  # (N, C)
    left = rounded(rows)
    dx = None if weight is None else (left @ rounded(weight)).reshape(*dout.shape[:-1], weight.shape[1])
    dweight = None if x is None else np.matmul(left.T, rounded(x).reshape(-1, x.shape[-1]), out=into)
    dbias = None if bias is None else rows.sum(axis=0)
    return dx, dweight, dbias


# ------------------------------------------------------------------------------------------- layernorm


def layernorm_forward(x, weight, bias, eps):
    """Normalise the last axis (Ba et al. 2016). x (..., C), weight (C,), bias (C,) or None.

    -> out (..., C), mean (...), rstd (...): 1 / sqrt(variance + eps).
    """
    mean = x.mean(axis=-1)
    centred = x - mean[..., None]
    rstd = 1.0 / np.sqrt((centred * centred).mean(axis=-1) + eps)
    out = centred * rstd[..., None] * weight
    if bias is not None:
        out += bias
    return out, mean, rstd


def layernorm_backward(dout, x, weight, mean, rstd):
    """-> dx (..., C), dweight (C,), dbias (C,)."""
    xhat = (x - mean[..., None]) * rstd[..., None]
    dxhat = dout * weight
    # x moves mean and variance too: take out dxhat's mean and its component along xhat
    dx = dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
    dx *= rstd[..., None]
    leading = tuple(range(x.ndim - 1))
    return dx, (dout * xhat).sum(axis=leading), dout.sum(axis=leading)


# ------------------------------------------------------------------------------------------------ gelu

_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715


def gelu_forward(x, approximate):
    """x * Phi(x), Hendrycks & Gimpel 2016. approximate: "none" (erf) or "tanh" (GPT-2's). Any shape."""
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x)))
    return x * _normal_cdf(x)


def gelu_backward(dout, x, approximate, overwrite=False):
    """-> dx, shaped like x; written over x if `overwrite`."""
    if approximate == "tanh":
        t = np.tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x))
        du = _SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBIC * x * x)
        slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
    else:
        density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
        slope = _normal_cdf(x) + x * density
    if not overwrite:
        return dout * slope
    x[...] = dout * slope
    return x


def _normal_cdf(x):
    """P(Z <= x); through erfc, which unlike 1 + erf keeps its digits far in the negative tail."""
    cdf = [0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.ravel().tolist()]  # NumPy has no erf
    return np.array(cdf, dtype=x.dtype, like=x).reshape(x.shape)


# ------------------------------------------------------------------------------------------- embedding


def embedding_forward(weight, ids):
    """Rows of a table. weight (V, C), ids (...) of integers -> (..., C)."""
    return weight[ids]


def embedding_backward(dout, ids, num_embeddings, into=None):
    """-> dweight (V, C). Repeated ids add up, in the order in which they stand.

    Where the array `into` is given, dweight is added to it, and it is returned.
    """
    dweight = np.zeros((num_embeddings, dout.shape[-1]), dtype=dout.dtype, like=dout)
    np.add.at(dweight, ids.reshape(-1), dout.reshape(-1, dout.shape[-1]))
    return dweight if into is None else np.add(into, dweight, out=into)


# --------------------------------------------------------------------------------------------- dropout


def dropout_forward(x, p, seed, step, stream):
    """Zero elements with probability p, divide the rest by 1 - p. Element i uses random word i. Any shape."""
    words = random_bits(x.size, seed, step, stream).reshape(x.shape)
    kept = np.asarray(words < keep_threshold(p), like=x)
    return np.where(kept, x * (1.0 / (1.0 - p)), 0.0).astype(x.dtype, copy=False)


def dropout_backward(dout, p, seed, step, stream):
    """-> dx. The mask is drawn again from the same counters, so none is kept. Linear, so it is its own rule."""
    return dropout_forward(dout, p, seed, step, stream)


# ------------------------------------------------------------------------------------------- attention


def attention_forward(q, k, v, scale, causal, p, seed, step, stream):
    """softmax(q k^T scale + mask) v with dropout of probability p on the probabilities, as GPT-2 has it.

    q (B, H, T, D), k and v (B, H, S, D) -> out (B, H, T, D), logsumexp (B, H, T) of the scaled scores.
    causal: query i sees keys 0..i. (T == S is not required without it.)
    """
    scores = _scores(q, k, scale, causal)  # (B, H, T, S)
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    dropped = weights / total * _attention_mask(scores.shape, p, seed, step, stream, q)
    return rounded(dropped) @ rounded(v), (highest + np.log(total))[..., 0]


def attention_backward(dout, q, k, v, out, logsumexp, scale, causal, p, seed, step, stream, into=None):
    """-> dq, dk, dv, shaped like q, k, v; written into the three arrays of `into` where it is given.

    The probabilities are formed again from logsumexp, so nothing of size T * S was kept.
    """
    probs = np.exp(_scores(q, k, scale, causal) - logsumexp[..., None])  # (B, H, T, S)
    mask = _attention_mask(probs.shape, p, seed, step, stream, q)
    dv = rounded(probs * mask).swapaxes(-1, -2) @ rounded(dout)
    dprobs = (rounded(dout) @ rounded(v).swapaxes(-1, -2)) * mask
    # softmax: dscores = probs * (dprobs - sum(probs * dprobs)); that sum equals sum(dout * out)
    dscores = rounded(probs * (dprobs - (dout * out).sum(axis=-1, keepdims=True)) * scale)
    dq, dk = dscores @ rounded(k), dscores.swapaxes(-1, -2) @ rounded(q)
    if into is None:
        return dq, dk, dv
    for target, grad in zip(into, (dq, dk, dv), strict=True):
        target[...] = grad
    return into


def _scores(q, k, scale, causal):
    scores = (rounded(q) @ rounded(k).swapaxes(-1, -2)) * scale  # (B, H, T, S)
    if causal:  # set, never added: no finite score can overpower the mask
        scores[..., ~np.tri(q.shape[2], k.shape[2], dtype=bool, like=scores)] = -np.inf
    return scores


def _attention_mask(shape, p, seed, step, stream, q):
    """0 or 1/(1-p) for every (b, h, i, j): lane j % 4 of the counter (j // 4, i, b * H + h, 0). An array like q."""
    if p == 0.0:
        return np.ones_like(q, shape=(1, 1, 1, 1))
    B, H, T, S = shape
    j4, i, bh = np.arange((S + 3) // 4), np.arange(T)[:, None], np.arange(B * H)[:, None, None]
    words = np.stack(philox4x32(j4, i, bh, 0, *derive_key(seed, step, stream)), axis=-1)
    kept = words.reshape(B, H, T, -1)[..., :S] < keep_threshold(p)
    return np.asarray(kept, like=q).astype(q.dtype) * (1.0 / (1.0 - p))


# ------------------------------------------------------------------------------- softmax cross-entropy


def softmax_cross_entropy_forward(logits, targets, ignore_index, reduction):
    """-log softmax(logits)[target], over all rows whose target is not ignore_index.

    logits (..., V), targets (...) of integers, reduction "mean" or "sum"
    -> loss (), logsumexp (...), divisor (): the number of rows that count, or 1 for "sum".
    With no row that counts the loss is 0 (and so is its gradient), not NaN.
    """
    highest = logits.max(axis=-1)
    logsumexp = highest + np.log(np.exp(logits - highest[..., None]).sum(axis=-1))
    counted = targets != ignore_index
    chosen = np.take_along_axis(logits, np.where(counted, targets, 0)[..., None], axis=-1)[..., 0]
    divisor = max(int(counted.sum()), 1) if reduction == "mean" else 1
    loss = np.where(counted, logsumexp - chosen, 0.0).sum(dtype=np.float64) / divisor
    return np.asarray(loss, dtype=logits.dtype, like=logits), logsumexp, np.asarray(divisor, like=logits)


def softmax_cross_entropy_backward(dout, logits, targets, logsumexp, divisor, ignore_index, overwrite):
    """-> dlogits (..., V) = (softmax(logits) - onehot(target)) * dout / divisor, 0 in ignored rows.

    dout (). overwrite: write it over `logits`, so that no second array of that size exists.
    """
    dlogits = logits if overwrite else np.empty(logits.shape, logits.dtype, like=logits)
    np.exp(logits - logsumexp[..., None], out=dlogits)
    counted = targets != ignore_index
    chosen = np.where(counted, targets, 0)[..., None]  # (..., 1)
    np.put_along_axis(dlogits, chosen, np.take_along_axis(dlogits, chosen, axis=-1) - 1.0, axis=-1)
    dlogits *= np.where(counted, float(dout) / float(divisor), 0.0).astype(logits.dtype)[..., None]
    return dlogits


# ------------------------------------------------------------------- the head and its loss, fused elsewhere


def linear_cross_entropy_forward(x, weight, targets, ignore_index, reduction, grad_scale, with_grads, into=None):
    """Cross-entropy of the logits x @ weight.T, and its gradients at once. x (..., K), weight (V, K), targets (...).

    -> loss (), dx (..., K), dweight (V, K), the gradients for an upstream one of grad_scale; None, None without
    with_grads. The fast kernels do this for a chunk of tokens at a time, so that no array of all logits exists.
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


def linear_cross_entropy_backward(dout, dx, dweight, grad_scale, overwrite=False):
    """What forward prepared for grad_scale, for dout () instead -> dx, dweight; written over them if `overwrite`."""
    factor = float(dout) / grad_scale
    if not overwrite:
        return dx * factor, dweight * factor
    dx *= factor
    dweight *= factor
    return dx, dweight


# ------------------------------------------------------------------------------------------- optimizer


def adamw_step(param, grad, m, v, step, learning_rate, beta1, beta2, eps, weight_decay, grad_scale):
    """One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), in place on param, m and v; all of shape (n,).

    step counts from 1. grad_scale multiplies the gradient first (clipping); decay is decoupled from it.
    """
    g = grad * grad_scale
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * g * g
    mhat = m / (1.0 - beta1**step)
    vhat = v / (1.0 - beta2**step)
    param *= 1.0 - learning_rate * weight_decay
    param -= learning_rate * mhat / (np.sqrt(vhat) + eps)


def fused_adamw_step(param, grad, m, v, low, step, ends, decays, learning_rate, beta1, beta2, eps, norm, max_norm):
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


def global_norm(arrays):
    """sqrt of the sum of all squares over a list of arrays, summed in float64 -> Python float."""
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


# ---------------------------------------------------------------------------------------- mixed precision


def scale_and_check(arrays, scale):
    """Multiply every array by scale, in place -> flag () uint8: 1 if all elements were finite before."""
    finite = [bool(np.isfinite(a).all()) for a in arrays]
    for a in arrays:
        a[...] = a.astype(np.promote_types(a.dtype, np.float32), copy=False) * scale  # 16 bits may not hold scale
    return np.asarray(all(finite), dtype=np.uint8, like=arrays[0])


def cast(x, dtype):
    """x of any shape as `dtype`, rounded to the nearest, ties to even; x itself where it has that dtype."""
    dtype = np.dtype(dtype)
    if (x.dtype.name, dtype.name) == ("float64", "bfloat16"):
        x = _round_to_odd(x)  # ml_dtypes rounds to float32 first: a second rounding would meet ties that are none
    return x.astype(dtype, copy=False)


def _round_to_odd(x):
    """float64 -> float32 with the last bit 1 where digits were lost (Boldo & Melquiond 2008): never a false tie."""
    y = x.astype(np.float32)
    wide = y.astype(np.float64)
    inexact, outward = (wide != x) & ~np.isnan(x), np.abs(wide) > np.abs(x)
    bits = y.view(np.uint32) - (inexact & outward)  # where it was rounded away from 0: the neighbour nearer to it
    return (bits | inexact).astype(np.uint32, copy=False).view(np.float32)


# --------------------------------------------------------------------- two kernels in one pass over memory


def residual_layernorm_forward(x, residual, weight, bias, eps):
    """layernorm of a residual sum. x, residual (..., C), weight (C,), bias (C,) or None.

    -> total (..., C) = x + residual, out (..., C) = layernorm(total), mean (...), rstd (...).
    """
    total = x + residual
    return total, *layernorm_forward(total, weight, bias, eps)


def residual_layernorm_backward(dout, dtotal, total, weight, mean, rstd):
    """-> dx (..., C), dweight (C,), dbias (C,). dx is the gradient of x and of residual alike.

    dtotal: the gradient that reaches `total` beside the one through `out`; None if there is none.
    """
    dx, dweight, dbias = layernorm_backward(dout, total, weight, mean, rstd)
    return (dx if dtotal is None else dx + dtotal), dweight, dbias


def bias_gelu_forward(x, bias, approximate):
    """gelu(x + bias). x (..., C), bias (C,), approximate "none" (erf) or "tanh" -> (..., C)."""
    return gelu_forward(x + bias, approximate)


def bias_gelu_backward(dout, x, bias, approximate):
    """-> dx (..., C), dbias (C,)."""
    dx = gelu_backward(dout, x + bias, approximate)
    return dx, dx.sum(axis=tuple(range(x.ndim - 1)))
