"""The operations of neural networks. The fused ones do their arithmetic in `kernels`."""

import math

import numpy as np

import kernels
from kernels import matmul_precision
from kernels.arrays import empty, is_array
from minigrad import graph
from minigrad._tensor import record

LARGE_TABLE = 4096  # rows from which on the few that a batch names are added alone


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along `axis`."""
    weights = np.exp(x.data - x.data.max(axis=axis, keepdims=True))
    out = weights / weights.sum(axis=axis, keepdims=True)
    return record(out, (x,), softmax_backward, out=out, axis=axis)


def softmax_backward(dout, out, axis):
    return out * (dout - (dout * out).sum(axis=axis, keepdims=True))


def log_softmax(x, axis=-1):
    """log(softmax(x)), without forming softmax(x) first."""
    shifted = x.data - x.data.max(axis=axis, keepdims=True)
    out = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return record(out, (x,), log_softmax_backward, out=out, axis=axis)


def log_softmax_backward(dout, out, axis):
    return dout - np.exp(out) * dout.sum(axis=axis, keepdims=True)


def linear(x, weight, bias=None):
    """x @ weight.T + bias. x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x has {x.shape[-1]} features, weight {weight.shape} takes {weight.shape[1]}")
    _check_vector("linear: bias", bias, weight.shape[0])
    out = kernels.for_array(x.data).linear_forward(x.data, weight.data, None if bias is None else bias.data)
    return record(
        out, (x, weight) if bias is None else (x, weight, bias), linear_backward,
        x=_recompute_or_data(x) if weight.requires_grad else None,  # each is saved only for the other's gradient
        weight=weight.data if x.requires_grad else None,
        has_bias=bias is not None,
    )  # fmt: skip


@graph.accumulates(1)
def linear_backward(dout, x, weight, has_bias, slot=graph.NO_SLOT):
    needs_dbias = has_bias or None  # the kernel asks of its argument `bias` only whether it is None
    grads = kernels.for_array(dout).linear_backward(dout, x, weight, needs_dbias, slot.output())  # dx, dweight, dbias
    return grads if has_bias else grads[:2]


def layernorm(x, weight, bias=None, eps=1e-5):
    """Normalise the last axis. x (..., C), weight (C,), bias (C,) or None -> (..., C). Ba et al. 2016."""
    _check_vector("layernorm: weight", weight, x.shape[-1])
    _check_vector("layernorm: bias", bias, x.shape[-1])
    kernel, kept = kernels.for_array(x.data).layernorm_forward, _saved_for_backward(x.data)
    scale_and_shift = weight.data, None if bias is None else bias.data
    normalised, mean, rstd = kernel(x.data, *scale_and_shift, eps)
    out = record(
        normalised, (x, weight) if bias is None else (x, weight, bias), layernorm_backward,
        x=kept, weight=weight.data, mean=mean, rstd=rstd, has_bias=bias is not None,
    )  # fmt: skip
    if out.node:
        out.recompute = graph.Recompute(lambda *args: kernel(*args)[0], kept, *scale_and_shift, eps)
    return out


@graph.accumulates(0)
def layernorm_backward(dout, x, weight, mean, rstd, has_bias=True, slot=graph.NO_SLOT):
    dresidual = slot.take()  # of the residual connection past the norm
    dx, dweight, dbias = kernels.for_array(dout).layernorm_backward(dout, x, weight, mean, rstd, dresidual)
    return (dx, dweight, dbias) if has_bias else (dx, dweight)


def rmsnorm(x, weight, eps=None):
    """Divide the last axis by its root mean square. x (..., C), weight (C,) -> (..., C). Zhang & Sennrich 2019.

    eps: added to the mean of squares; None: the rounding unit of x's dtype, as in PyTorch.
    """
    _check_vector("rmsnorm: weight", weight, x.shape[-1])
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    out, rstd = kernels.for_array(x.data).rmsnorm_forward(x.data, weight.data, eps)
    return record(out, (x, weight), rmsnorm_backward, x=x.data, weight=weight.data, rstd=rstd)


def rmsnorm_backward(dout, x, weight, rstd):
    return kernels.for_array(dout).rmsnorm_backward(dout, x, weight, rstd)  # dx, dweight


def gelu(x, approximate="none"):
    """x * Phi(x); approximate="tanh" is GPT-2's form. Hendrycks & Gimpel 2016."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate is {approximate!r}; expected "none" or "tanh"')
    kernel, kept = kernels.for_array(x.data).gelu_forward, _saved_for_backward(x.data)
    is_new = {"x_is_new": True} if kept is not x.data else {}  # computed for backward alone, which may overwrite it
    out = record(kernel(x.data, approximate), (x,), gelu_backward, x=kept, approximate=approximate, **is_new)
    if out.node:
        out.recompute = graph.Recompute(kernel, kept, approximate)
    return out


def gelu_backward(dout, x, approximate, x_is_new=False):
    return kernels.for_array(dout).gelu_backward(dout, x, approximate, x_is_new)


def embedding(weight, ids):
    """Rows of a table. weight (V, C), ids (...) an integer array -> (..., C). IndexError outside 0..V-1.

    ids may be on the host, wherever the weight is: there they are checked without waiting for a device.
    """
    ids = _checked_ids("embedding: id", ids, weight.shape[0], weight.data)
    out = kernels.for_array(weight.data).embedding_forward(weight.data, ids)
    return record(out, (weight,), embedding_backward, ids=ids, num_embeddings=weight.shape[0])


@graph.accumulates(0)
def embedding_backward(dout, ids, num_embeddings, slot=graph.NO_SLOT):
    in_place = slot.grad is None or num_embeddings >= LARGE_TABLE  # else the engine adds a whole gradient as quickly
    buffer = slot.sum_buffer() if in_place else None
    return kernels.for_array(dout).embedding_backward(dout, ids, num_embeddings, buffer)


def dropout(x, p, seed, step, stream):
    """Zero elements with probability p and divide the rest by 1 - p.

    The mask is a function of (seed, step, stream) and the element's index (Philox4x32-10), so the same
    arguments give the same result, and backward draws the mask again instead of keeping it.
    """
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p}; expected 0 <= p < 1")
    out = kernels.for_array(x.data).dropout_forward(x.data, p, seed, step, stream)
    return record(out, (x,), dropout_backward, p=p, seed=seed, step=step, stream=stream)


def dropout_backward(dout, p, seed, step, stream):
    return kernels.for_array(dout).dropout_backward(dout, p, seed, step, stream)


def scaled_dot_product_attention(q, k, v, causal=True, scale=None, p=0.0, seed=0, step=0, stream=0):
    """softmax(q k^T * scale) v. q (B, H, T, D), k and v (B, H, S, D) -> (B, H, T, D).

    causal: query i sees keys 0..i. scale: 1 / sqrt(D) unless given. p: dropout on the probabilities, with
    (seed, step, stream) as for `dropout`. Vaswani et al. 2017; computed as in Dao 2023 (arXiv 2307.08691).
    """
    fits = q.ndim == k.ndim == 4 and q.shape[:2] == k.shape[:2] and q.shape[3] == k.shape[3] and k.shape == v.shape
    if not fits:
        raise ValueError(f"attention needs q (B, H, T, D), k and v (B, H, S, D); got {q.shape}, {k.shape}, {v.shape}")
    setting = _attention_setting(q.shape[-1], causal, scale, p, seed, step, stream)
    out, logsumexp = kernels.for_array(q.data).attention_forward(q.data, k.data, v.data, **setting)
    return record(
        out, (q, k, v), scaled_dot_product_attention_backward,
        q=q.data, k=k.data, v=v.data, out=out, logsumexp=logsumexp, **setting,
    )  # fmt: skip


def scaled_dot_product_attention_backward(dout, q, k, v, out, logsumexp, **setting):
    return kernels.for_array(dout).attention_backward(dout, q, k, v, out, logsumexp, **setting)


def causal_self_attention(qkv, n_head, p=0.0, seed=0, step=0, stream=0):
    """Attention of a sequence to its own past. qkv (B, T, 3 C): queries, keys, values -> (B, T, C).

    The same kernel as `scaled_dot_product_attention`, reading and writing the packed array in place of
    separate copies of its three parts.
    """
    q, k, v = _split_heads(qkv.data, n_head)
    setting = _attention_setting(q.shape[-1], True, None, p, seed, step, stream)
    out, logsumexp = kernels.for_array(qkv.data).attention_forward(q, k, v, **setting)
    merged = _merge_heads(out)
    kept = _saved_for_backward(merged)
    result = record(
        merged, (qkv,), causal_self_attention_backward,
        qkv=_saved_for_backward(qkv.data), out=kept, logsumexp=logsumexp, n_head=n_head, **setting,
    )  # fmt: skip
    if kept is not merged:
        result.recompute = kept
    return result


def causal_self_attention_backward(dout, qkv, out, logsumexp, n_head, **setting):
    dqkv = empty(qkv.shape, qkv.dtype, like=qkv)  # (B, T, 3 C)
    dout, out = _heads(dout, n_head), _heads(out, n_head)  # (B, H, T, D)
    kernels.for_array(dout).attention_backward(
        dout, *_split_heads(qkv, n_head), out, logsumexp, **setting, into=_split_heads(dqkv, n_head)
    )
    return dqkv


def _attention_setting(D, causal, scale, p, seed, step, stream):
    if not 0.0 <= p < 1.0:
        raise ValueError(f"attention: dropout probability p is {p}; expected 0 <= p < 1")
    scale = 1.0 / math.sqrt(D) if scale is None else scale
    return {"scale": scale, "causal": causal, "p": p, "seed": seed, "step": step, "stream": stream}


def _split_heads(qkv, n_head):
    """(B, T, 3 C) -> three views (B, H, T, D)."""
    if qkv.ndim != 3 or n_head < 1:
        raise ValueError(f"attention needs qkv (B, T, 3 C) and n_head >= 1; got {qkv.shape} and {n_head}")
    B, T, C3 = qkv.shape
    if C3 % (3 * n_head):
        raise ValueError(f"attention: {C3} features do not divide into q, k, v of {n_head} heads each")
    return tuple(qkv.reshape(B, T, 3, n_head, -1).transpose(2, 0, 3, 1, 4))


def _heads(x, n_head):
    """(B, T, C) -> a view (B, H, T, D)."""
    return x.reshape(*x.shape[:2], n_head, -1).swapaxes(1, 2)


def _merge_heads(x):
    """(B, H, T, D) -> (B, T, C)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def softmax_cross_entropy(logits, targets, ignore_index=-100, reduction="mean"):
    """-log softmax(logits)[target], averaged or summed over the rows whose target is not ignore_index.

    logits (..., V), targets (...) an integer array, reduction "mean" or "sum" -> (). If no row counts, the
    loss is 0. Raises IndexError for a target outside 0..V-1. targets may be on the host, wherever the logits are.
    """
    targets = _integers(targets)
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"cross-entropy: logits {logits.shape} need targets {logits.shape[:-1]}, not {targets.shape}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f'cross-entropy: reduction is {reduction!r}; expected "mean" or "sum"')
    targets = _checked_ids("cross-entropy: target", targets, logits.shape[-1], logits.data, ignore_index)
    loss, logsumexp, divisor = kernels.for_array(logits.data).softmax_cross_entropy_forward(
        logits.data, targets, ignore_index, reduction
    )
    return record(
        loss, (logits,), softmax_cross_entropy_backward,
        logits=logits.data, targets=targets, logsumexp=logsumexp, divisor=divisor, ignore_index=ignore_index,
    )  # fmt: skip


def softmax_cross_entropy_backward(dout, logits, targets, logsumexp, divisor, ignore_index=-100):
    return kernels.for_array(logits).softmax_cross_entropy_backward(
        dout, logits, targets, logsumexp, divisor, ignore_index, False
    )


def linear_cross_entropy(x, weight, targets, ignore_index=-100, reduction="mean", grad_scale=1.0):
    """softmax_cross_entropy(x @ weight.T, targets), where the logits (..., V) never exist all at once.

    x (..., K), weight (V, K), targets (...) an integer array -> (). Both gradients are formed in forward, unless
    inside no_grad, for an upstream gradient of grad_scale; backward corrects their scale if it gets another one.
    """
    targets = _integers(targets)
    if x.shape[-1] != weight.shape[1] or targets.shape != x.shape[:-1]:
        raise ValueError(f"cross-entropy: x {x.shape}, weight {weight.shape} and targets {targets.shape} do not fit")
    if reduction not in ("mean", "sum"):
        raise ValueError(f'cross-entropy: reduction is {reduction!r}; expected "mean" or "sum"')
    if not grad_scale > 0.0:
        raise ValueError(f"cross-entropy: grad_scale is {grad_scale}; expected more than 0")
    targets = _checked_ids("cross-entropy: target", targets, weight.shape[0], x.data, ignore_index)
    recording = graph.thread.recording and (x.requires_grad or weight.requires_grad)
    output = weight.output() if recording and weight.node is None and weight.requires_grad else None
    loss, dx, dweight = kernels.for_array(x.data).linear_cross_entropy_forward(
        x.data, weight.data, targets, ignore_index, reduction, grad_scale, recording, output
    )
    return record(loss, (x, weight), linear_cross_entropy_backward, dx=dx, dweight=dweight, grad_scale=grad_scale)


@graph.accumulates(1)
def linear_cross_entropy_backward(dout, dx, dweight, grad_scale, slot=graph.NO_SLOT):
    once = slot is not graph.NO_SLOT  # then the arrays that forward made become the gradients
    return kernels.for_array(dx).linear_cross_entropy_backward(dout, dx, dweight, grad_scale, once)


def _saved_for_backward(array):
    """What is saved of an array: a bfloat16 copy where products round to that anyway, else the array itself.

    Of what a model keeps for backward, most comes out of products and goes into others.
    """
    if not graph.thread.recording or not matmul_precision.rounds(array.dtype):
        return array
    from kernels.cast.cpu import from_bfloat16_bits, to_bfloat16_bits  # here: the reference kernels import no compiler

    return graph.Recompute(from_bfloat16_bits, to_bfloat16_bits(array))


def _recompute_or_data(x):
    """What to save of x: its Recompute, if it has one that gives x still, else the array."""
    return x.data if x.recompute is None or graph.may_be_stale(x.node) else x.recompute


def _check_vector(what, vector, n):
    """Kernels rely on it: a shorter vector would have them read foreign memory."""
    if vector is not None and vector.shape != (n,):
        raise ValueError(f"{what} has shape {vector.shape}, expected {(n,)}")


def _integers(ids):
    ids = ids.data if hasattr(ids, "node") else ids
    return ids if is_array(ids) else np.asarray(ids)


def _checked_ids(what, ids, n, like, ignore_index=None):
    """The ids where the array `like` is. Kernels rely on the check: an index out of range would read foreign memory."""
    ids = _integers(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what}s must be integers, not {ids.dtype}")
    bad = (ids < 0) | (ids >= n)
    if ignore_index is not None:
        bad &= ids != ignore_index
    if bad.any():
        raise IndexError(f"{what} {ids[bad][0]} is outside 0..{n - 1}")
    return np.asarray(ids, like=like)
