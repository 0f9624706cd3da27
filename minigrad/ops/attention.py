"""Attention: PyTorch's function, and the operations of the kernels.

B batch, H heads, T queries, S keys, D head size.
"""

import math
from typing import Any

import numpy as np

import kernels
from kernels.arrays import empty
from minigrad import graph, random
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Shape, TensorLike
from minigrad.ops.checks import layer_inputs
from minigrad.ops.elementwise import add, astype, mul, where
from minigrad.ops.linalg import matmul
from minigrad.ops.nn import dropout, saved_array, softmax
from minigrad.ops.shape import broadcast_to, expand_dims, reshape, swapaxes


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query key^T * scale + attn_mask) value: PyTorch's function. Vaswani et al. 2017.

    query (..., T, D), key (..., S, D), value (..., S, E) -> (..., T, E); the leading axes broadcast.

    attn_mask   broadcasts to (..., T, S): booleans, False hides a key, or floats that are added to the scores; a query
                that sees no key gets zeros
    dropout_p   probability that a weight is dropped, by the next stream of `minigrad.random`
    is_causal   query i sees keys 0..i; only without attn_mask
    scale       1 / sqrt(D) unless given
    enable_gqa  key and value may have fewer heads (axis -3), each of which several heads of query share

    Without a mask and with equal sizes it is computed by `flash_attention`, which holds no array (T, S).
    """
    q, k, v = layer_inputs("scaled_dot_product_attention", "query key value", query, key, value)
    _check_attention_shapes(q, k, v)
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"scaled_dot_product_attention: dropout_p is {dropout_p}; expected 0 <= dropout_p <= 1")
    if enable_gqa:
        k, v = _repeat_heads(k, q), _repeat_heads(v, q)
    scale = _scale(scale, q.shape[-1])
    fits = q.shape[:-2] == k.shape[:-2] and k.shape == v.shape and q.size and k.size
    if attn_mask is None and fits and dropout_p < 1.0:
        tape = random.next_stream() if dropout_p else (0, 0, 0)
        shape = q.shape
        if q.ndim != 4:
            q, k, v = (reshape(x, (1, math.prod(x.shape[:-2]), *x.shape[-2:])) for x in (q, k, v))
        return reshape(flash_attention(q, k, v, is_causal, scale, dropout_p, *tape), shape)
    _check_leading_axes(q, k, v)
    scores = mul(matmul(q, swapaxes(k, -1, -2)), scale)  # (..., T, S)
    return matmul(dropout(_weights(scores, attn_mask, is_causal), dropout_p), v)


def _check_attention_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(
            "scaled_dot_product_attention needs query (..., T, D), key (..., S, D) and value (..., S, E); "
            f"got {q.shape}, {k.shape}, {v.shape}"
        )


def _check_leading_axes(q: Tensor, k: Tensor, v: Tensor) -> None:
    try:
        np.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v)))
    except ValueError:
        raise ValueError(
            f"scaled_dot_product_attention: the leading axes of query {q.shape}, key {k.shape} and value {v.shape} do "
            "not broadcast; enable_gqa=True lets heads of query share those of key and value"
        ) from None


def _repeat_heads(x: Tensor, q: Tensor) -> Tensor:
    """x (..., h, S, D) -> (..., H, S, D), each head for H / h heads of q (..., H, T, D) in a row."""
    H, h = (t.shape[-3] if t.ndim > 2 else 0 for t in (q, x))
    if not h or H % h:
        raise ValueError(f"enable_gqa: {H} heads of query cannot share {h} heads of key or value")
    if H == h:
        return x
    groups = (*x.shape[:-2], H // h, *x.shape[-2:])
    return reshape(broadcast_to(expand_dims(x, -3), groups), (*x.shape[:-3], H, *x.shape[-2:]))


def _weights(scores: Tensor, attn_mask: TensorLike | None, is_causal: bool) -> Tensor:
    """The softmax of scores (..., T, S), zeros for a query that sees no key."""
    if attn_mask is not None:
        if is_causal:
            raise ValueError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
        what, shape = "scaled_dot_product_attention: attn_mask", scores.shape
        attn_mask = as_tensor(attn_mask)
        if not _broadcasts(attn_mask.shape, shape):
            raise ValueError(f"{what} has shape {attn_mask.shape}; it must broadcast to that of the scores, {shape}")
        scores = add_mask(what, scores, attn_mask)
    elif is_causal:
        scores = where(np.tri(*scores.shape[-2:], dtype=np.bool, like=scores.data), scores, -math.inf)
    blind = (scores.data == -math.inf).all(axis=-1, keepdims=True)  # (..., T, 1)
    if not blind.any():
        return softmax(scores, dim=-1)
    # their softmax would be NaN, and so would gradients
    return where(blind, 0.0, softmax(where(blind, 0.0, scores), dim=-1))


def _broadcasts(shape: Shape, onto: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, onto) == onto
    except ValueError:
        return False


def add_mask(what: str, scores: Tensor, mask: TensorLike, visible: bool = True) -> Tensor:
    """scores with a mask: floats are added; of booleans those that are not `visible` become -inf."""
    mask = as_tensor(mask)
    if mask.dtype == bool:
        return where(mask.data == visible, scores, -math.inf)
    if mask.dtype not in (np.float32, scores.dtype):
        raise TypeError(f"{what} is {mask.dtype}, expected bool or {scores.dtype}")
    return add(scores, astype(mask, scores.dtype))


def flash_attention(
    q: TensorLike,
    k: TensorLike,
    v: TensorLike,
    causal: bool = True,
    scale: float | None = None,
    p: float = 0.0,
    seed: int = 0,
    step: int = 0,
    stream: int = 0,
) -> Tensor:
    """softmax(q k^T * scale) v. q (B, H, T, D), k and v (B, H, S, D) -> (B, H, T, D).

    causal: query i sees keys 0..i. scale: 1 / sqrt(D) unless given. p: dropout on the probabilities, with
    (seed, step, stream) as for `seeded_dropout`. Vaswani et al. 2017; computed as in Dao 2023 (arXiv 2307.08691).
    """
    q, k, v = layer_inputs("flash_attention", "q k v", q, k, v)
    fits = q.ndim == k.ndim == 4 and q.shape[:2] == k.shape[:2] and q.shape[3] == k.shape[3] and k.shape == v.shape
    if not fits:
        raise ValueError(f"attention needs q (B, H, T, D), k and v (B, H, S, D); got {q.shape}, {k.shape}, {v.shape}")
    setting = _attention_setting(q.shape[-1], causal, scale, p, seed, step, stream)
    out, logsumexp = kernels.for_array(q.data).attention_forward(q.data, k.data, v.data, **setting)
    return record(
        out, (q, k, v), flash_attention_backward,
        q=q.data, k=k.data, v=v.data, out=out, logsumexp=logsumexp, **setting,
    )  # fmt: skip


def flash_attention_backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, logsumexp: Array, **setting: Any
) -> tuple[Array, Array, Array]:
    return kernels.for_array(dout).attention_backward(dout, q, k, v, out, logsumexp, **setting)


def causal_self_attention(
    qkv: TensorLike, n_head: int, p: float = 0.0, seed: int = 0, step: int = 0, stream: int = 0
) -> Tensor:
    """Attention of a sequence to its own past. qkv (B, T, 3 C): queries, keys, values -> (B, T, C).

    The same kernel as `flash_attention`, which reads and writes the packed array here instead of three separate ones.
    """
    qkv, _, _ = layer_inputs("causal_self_attention", "qkv", qkv)
    q, k, v = _split_heads(qkv.data, n_head)
    setting = _attention_setting(q.shape[-1], True, None, p, seed, step, stream)
    out, logsumexp = kernels.for_array(qkv.data).attention_forward(q, k, v, **setting)
    merged = _merge_heads(out)
    kept = saved_array(merged)
    result = record(
        merged, (qkv,), causal_self_attention_backward,
        qkv=saved_array(qkv.data), out=kept, logsumexp=logsumexp, n_head=n_head, **setting,
    )  # fmt: skip
    if isinstance(kept, graph.Recompute):
        result.recompute = kept
    return result


def causal_self_attention_backward(
    dout: Array, qkv: Array, out: Array, logsumexp: Array, n_head: int, **setting: Any
) -> Array:
    dqkv = empty(qkv.shape, qkv.dtype, like=qkv)  # (B, T, 3 C)
    dout, out = _heads(dout, n_head), _heads(out, n_head)  # (B, H, T, D)
    kernels.for_array(dout).attention_backward(
        dout, *_split_heads(qkv, n_head), out, logsumexp, **setting, into=_split_heads(dqkv, n_head)
    )
    return dqkv


def _attention_setting(
    D: int, causal: bool, scale: float | None, p: float, seed: int, step: int, stream: int
) -> dict[str, Any]:
    """The settings of the kernels, checked."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"attention: dropout probability p is {p}; expected 0 <= p < 1")
    return {"scale": _scale(scale, D), "causal": causal, "p": p, "seed": seed, "step": step, "stream": stream}


def _scale(scale: float | None, D: int) -> float:
    """1 / sqrt(D) unless given; without elements scores are 0 at any scale."""
    return 1.0 / math.sqrt(max(D, 1)) if scale is None else float(scale)  # np.float64 would widen float32


def _split_heads(qkv: Array, n_head: int) -> tuple[Array, ...]:
    """(B, T, 3 C) -> three views (B, H, T, D)."""
    if qkv.ndim != 3 or n_head < 1:
        raise ValueError(f"attention needs qkv (B, T, 3 C) and n_head >= 1; got {qkv.shape} and {n_head}")
    B, T, C3 = qkv.shape
    if C3 % (3 * n_head):
        raise ValueError(f"attention: {C3} features do not divide into q, k, v of {n_head} heads each")
    return tuple(qkv.reshape(B, T, 3, n_head, -1).transpose(2, 0, 3, 1, 4))


def _heads(x: Array, n_head: int) -> Array:
    """(B, T, C) -> a view (B, H, T, D)."""
    return x.reshape(*x.shape[:2], n_head, -1).swapaxes(1, 2)


def _merge_heads(x: Array) -> Array:
    """(B, H, T, D) -> (B, T, C)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
