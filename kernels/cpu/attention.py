"""Causal attention in tiles with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward, each block of queries meets the blocks of keys
one after another and keeps a running maximum, sum and weighted mean; backward forms the probabilities again from
logsumexp. Threads share out the (batch, head) pairs, so no two add into one place.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from kernels.cpu.compile import exp, jit, launch
from kernels.cpu.philox import philox4x32
from kernels.cpu.tiles import (
    ALL,
    LOWER_A,
    LOWER_OUT,
    UPPER_A,
    aligned,
    multiply_add,
    pack,
    pack_transposed,
    padded,
    rows_of,
    turn,
    unpack,
)  # fmt: skip
from kernels.cpu.vectors import VECTORS, lanes, largest, take
from kernels.philox import derive_key, keep_threshold

_KEEP_ALL = np.uint64(keep_threshold(0.0))
_BLOCK = 64  # queries and keys at a time; a multiple of a tile's sides


def attention_forward(q, k, v, scale, causal, p, seed, step, stream):
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T).

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy.
    """
    B, H, T, D = q.shape
    out, logsumexp = np.empty((B, T, H, D), q.dtype).transpose(0, 2, 1, 3), np.empty((B, H, T), q.dtype)
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs = [rows_of(x) for x in (q, k, v)]
    scale, work = q.dtype.type(scale), _nanoseconds(shape)
    sides = lanes(q.dtype), get_num_threads()
    launch(_forward, work, shape, *inputs, scale, causal, dropout, rows_of(out), logsumexp, *sides)
    return out, logsumexp


def attention_backward(dout, q, k, v, out, logsumexp, scale, causal, p, seed, step, stream, into=None):
    """-> dq, dk, dv, shaped like q, k, v; written into the three arrays of `into` where it is given.

    The arrays of `into` must have rows without gaps: their last axis is contiguous.
    """
    B, H, T, D = q.shape
    grads = tuple(np.empty(x.shape, x.dtype) for x in (q, k, v)) if into is None else into
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs, outputs = [rows_of(x) for x in (dout, q, k, v, out)], [rows_of(x) for x in grads]
    scale, work = q.dtype.type(scale), 2.5 * _nanoseconds(shape)
    sides = lanes(q.dtype), get_num_threads()
    launch(_backward, work, shape, *inputs, logsumexp, scale, causal, dropout, *outputs, *sides)
    return grads


def _nanoseconds(shape):
    """A guess at forward's time on one thread: a few operations for every score, two for every product of it."""
    B, H, T, S, D = shape
    return B * H * T * S * (0.7 + 0.02 * D)


def _dropout(p, seed, step, stream, dtype):
    """What a tile needs to draw its part of the mask: threshold (_KEEP_ALL: no dropout), scale and key."""
    k0, k1 = derive_key(seed, step, stream) if p else (0, 0)
    return np.uint64(keep_threshold(p)), dtype.type(1.0 / (1.0 - p)), np.uint32(k0), np.uint32(k1)


@jit
def _draw(bh, i0, j0, dropout, words, drawn, keep, lanes):
    """keep (queries, keys) = 0 or 1 / (1 - p) for a block from query i0 and key j0 on; words and drawn are memory.

    A score has lane j % 4 of the Philox counter (j // 4, i, b * H + h, 0).
    """
    threshold, scale, k0, k1 = dropout
    zero, none = scale - scale, np.uint32(0)
    for j in range(0, _BLOCK, 4):
        first = np.uint32((j0 + j) // 4), np.uint32(i0)
        philox4x32(first, (none, np.uint32(1)), np.uint32(bh), none, k0, k1, words)
        for lane in range(4):
            word, column = words[lane], drawn[(j + lane) * _BLOCK : (j + lane + 1) * _BLOCK]
            for i in range(column.size):
                column[i] = scale if np.uint64(word[i]) < threshold else zero
    turn(drawn, _BLOCK, _BLOCK, lanes, keep)


@jit(parallel=True)
def _forward(shape, q, k, v, scale, causal, dropout, out, logsumexp, lanes, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        bh = take(taken, 0)
        while bh < B * H:
            _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, lanes)
            bh = take(taken, 0)


@jit
def _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, lanes):
    _, H, T, S, D = shape
    b, h, size = bh // H, bh % H, _BLOCK
    wide, n_queries, n_keys = padded(D, VECTORS * lanes), padded(T, size), padded(S, size)
    qT, kT = pack_transposed(q, b, h, T, D, n_queries, lanes), pack_transposed(k, b, h, S, D, n_keys, lanes)
    values, mean = pack(v, b, h, S, D, wide, n_keys, lanes), aligned(n_queries * wide, q[0])
    s, sT = aligned(size * size, mean), aligned(size * size, mean)
    keep, words = aligned(size * size, s), np.empty((4, size), np.uint32)
    highest, total = np.empty(size, s.dtype), np.empty(size, s.dtype)
    for i0 in range(0, T, size):
        highest[:], total[:] = -np.inf, 0
        rows = min(size, padded(T - i0, 8))
        for j0 in range(0, min(S, i0 + size) if causal else S, size):
            diagonal = causal and i0 == j0
            s[:] = 0
            part = LOWER_OUT if diagonal else ALL
            multiply_add(qT, i0, n_queries, kT, j0, n_keys, s, 0, size, rows, D, size, part, lanes)
            if dropout[0] < _KEEP_ALL:
                _draw(bh, i0, j0, dropout, words, sT, keep, lanes)
            for i in range(rows):
                seen = min(size, S - j0, i + 1 if diagonal else size)
                row, so_far = s[i * size : (i + 1) * size], mean[(i0 + i) * wide : (i0 + i + 1) * wide]
                highest[i], total[i] = _online_softmax(row, seen, scale, highest[i], total[i], so_far)
                if dropout[0] < _KEEP_ALL:
                    kept = keep[i * size : (i + 1) * size]
                    for j in range(size):
                        row[j] *= kept[j]
            turn(s, size, rows, lanes, sT)
            part = LOWER_A if diagonal else ALL
            multiply_add(sT, 0, size, values, j0 * wide, wide, mean, i0 * wide, wide, rows, size, wide, part, lanes)
        for i in range(min(size, T - i0)):
            logsumexp[b, h, i0 + i] = highest[i] + math.log(total[i])
            row, share = mean[(i0 + i) * wide : (i0 + i + 1) * wide], 1 / total[i]
            for d in range(wide):
                row[d] *= share
    unpack(mean, wide, out, b, h, T, D, lanes)


@jit
def _online_softmax(row, seen, scale, highest, total, mean):
    """Turn a row's scores into exp(score * scale - maximum so far), 0 from `seen` on; rescale what went before.

    -> the maximum and the sum so far.
    """
    hidden, added = row.dtype.type(-np.inf), row.dtype.type(0)
    for j in range(_BLOCK):  # all of it: a loop of known length has no rest that is done one by one
        row[j] = row[j] * scale if j < seen else hidden
    new = largest(row, 0, _BLOCK, highest)
    for j in range(_BLOCK):
        row[j] = exp(row[j] - new)
    for j in range(_BLOCK):
        added += row[j]
    if new > highest:
        shrink = exp(highest - new)
        total *= shrink
        for d in range(mean.size):
            mean[d] *= shrink
    return new, total + added


@jit(parallel=True)
def _backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, lanes, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        bh = take(taken, 0)
        while bh < B * H:
            _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, lanes)
            bh = take(taken, 0)


@jit
def _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, lanes):
    _, H, T, S, D = shape
    b, h, size = bh // H, bh % H, _BLOCK
    wide, n_queries, n_keys = padded(D, VECTORS * lanes), padded(T, size), padded(S, size)
    qT, doutT = (pack_transposed(q, b, h, T, D, n_queries, lanes), pack_transposed(dout, b, h, T, D, n_queries, lanes))
    kT, vT = pack_transposed(k, b, h, S, D, n_keys, lanes), pack_transposed(v, b, h, S, D, n_keys, lanes)
    qs, douts = pack(q, b, h, T, D, wide, n_queries, lanes), pack(dout, b, h, T, D, wide, n_queries, lanes)
    ks, outs = pack(k, b, h, S, D, wide, n_keys, lanes), pack(out, b, h, T, D, wide, n_queries, lanes)
    dqs, dks, dvs = aligned(n_queries * wide, qs), aligned(n_keys * wide, qs), aligned(n_keys * wide, qs)
    probs, dscores, turned = aligned(size * size, qs), aligned(size * size, qs), aligned(size * size, qs)
    keep, words = np.ones(size * size, qs.dtype), np.empty((4, size), np.uint32)
    for i0 in range(0, T, size):
        rows, at = min(size, padded(T - i0, 8)), i0 * wide
        for j0 in range(0, min(S, i0 + size) if causal else S, size):
            diagonal, to = causal and i0 == j0, j0 * wide
            columns = min(size, padded(S - j0, 8))
            probs[:], dscores[:] = 0, 0  # first dout @ v.T, the gradient of the probabilities after dropout
            part = LOWER_OUT if diagonal else ALL
            multiply_add(qT, i0, n_queries, kT, j0, n_keys, probs, 0, size, rows, D, size, part, lanes)
            multiply_add(doutT, i0, n_queries, vT, j0, n_keys, dscores, 0, size, rows, D, size, part, lanes)
            if dropout[0] < _KEEP_ALL:
                _draw(bh, i0, j0, dropout, words, turned, keep, lanes)
            for i in range(rows):
                seen = min(size, S - j0, i + 1 if diagonal else size) if i0 + i < T else 0
                prob, dscore = probs[i * size : (i + 1) * size], dscores[i * size : (i + 1) * size]
                line = slice(at + i * wide, at + (i + 1) * wide)
                lse = logsumexp[b, h, i0 + i] if seen else prob[0]
                _row_backward(
                    prob, dscore, seen, scale, lse, _dot(douts[line], outs[line]), keep[i * size : (i + 1) * size]
                )
            part = UPPER_A if diagonal else ALL
            multiply_add(probs, 0, size, douts, at, wide, dvs, to, wide, columns, rows, wide, part, lanes)
            multiply_add(dscores, 0, size, qs, at, wide, dks, to, wide, columns, rows, wide, part, lanes)
            turn(dscores, size, rows, lanes, turned)
            part = LOWER_A if diagonal else ALL
            multiply_add(turned, 0, size, ks, to, wide, dqs, at, wide, rows, size, wide, part, lanes)
    unpack(dqs, wide, dq, b, h, T, D, lanes)
    unpack(dks, wide, dk, b, h, S, D, lanes)
    unpack(dvs, wide, dv, b, h, S, D, lanes)


@jit
def _row_backward(prob, dscore, seen, scale, lse, dot, keep):
    """Turn a row's scores into probabilities after dropout, and their gradient into that of the scores."""
    zero = prob.dtype.type(0)
    for j in range(_BLOCK):
        p = exp(prob[j] * scale - lse)
        dscore[j] = p * (dscore[j] * keep[j] - dot) * scale if j < seen else zero
        prob[j] = p * keep[j] if j < seen else zero


@jit
def _dot(x, y):
    total = x.dtype.type(0)
    for d in range(x.size):
        total += x[d] * y[d]
    return total
