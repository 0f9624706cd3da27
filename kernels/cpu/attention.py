"""Causal attention in tiles with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward, each block of queries meets the blocks of keys
one after another and keeps a running maximum, sum and weighted mean; backward forms the probabilities again from
logsumexp. Threads share out the (batch, head) pairs, so no two add into one place.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from kernels.cpu.compile import exp, jit, launch
from kernels.cpu.memory import empty
from kernels.cpu.philox import philox4x32
from kernels.cpu.tiles import (
    ALL,
    BLOCK,
    LOWER_A,
    LOWER_OUT,
    UPPER_A,
    UPPER_OUT,
    multiply_add,
    pack,
    pack_transposed,
    padded,
    rows_of,
    turn,
    uninitialised,
    unpack,
)  # fmt: skip
from kernels.cpu.vectors import FEW_ROWS, VECTORS, lanes, take
from kernels.philox import derive_key, keep_threshold

_KEEP_ALL = np.uint64(keep_threshold(0.0))


def attention_forward(q, k, v, scale, causal, p, seed, step, stream):
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T).

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy.
    """
    B, H, T, D = q.shape
    out, logsumexp = empty((B, T, H, D), q.dtype).transpose(0, 2, 1, 3), np.empty((B, H, T), q.dtype)
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
def _three(n, like):
    return uninitialised(n, like), uninitialised(n, like), uninitialised(n, like)


@jit
def _draw(bh, i0, j0, dropout, words, keep):
    """keep (keys, queries) = 0 or 1 / (1 - p) for a block from key j0 and query i0 on; words is memory.

    A score has lane j % 4 of the Philox counter (j // 4, i, b * H + h, 0).
    """
    threshold, scale, k0, k1 = dropout
    zero, none = scale - scale, np.uint32(0)
    for j in range(0, BLOCK, 4):
        first = np.uint32((j0 + j) // 4), np.uint32(i0)
        philox4x32(first, (none, np.uint32(1)), np.uint32(bh), none, k0, k1, words)
        for lane in range(4):
            word, column = words[lane], keep[(j + lane) * BLOCK : (j + lane + 1) * BLOCK]
            for i in range(column.size):
                column[i] = scale if np.uint64(word[i]) < threshold else zero


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
    b, h, wide = bh // H, bh % H, padded(D, VECTORS * lanes)
    qT, mean = uninitialised(BLOCK * D, q[0]), uninitialised(BLOCK * wide, q[0])
    kT, values = uninitialised(padded(S, BLOCK) * D, q[0]), uninitialised(padded(S, BLOCK) * wide, q[0])
    probs, keep = uninitialised(BLOCK * BLOCK, q[0]), uninitialised(BLOCK * BLOCK, q[0])
    highest, total, shrink = _three(BLOCK, q[0])
    words = np.empty((4, BLOCK), np.uint32)
    for j0 in range(0, S, BLOCK):
        pack_transposed(k, b, h, j0, S - j0, D, kT, j0 * D, lanes)
        pack(v, b, h, j0, S - j0, D, wide, values, j0 * wide, lanes)
    for i0 in range(0, T, BLOCK):
        pack_transposed(q, b, h, i0, T - i0, D, qT, 0, lanes)
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        rows = padded(min(BLOCK, T - i0), FEW_ROWS)
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal = min(BLOCK, S - j0), causal and i0 == j0
            probs[:] = 0  # (keys, queries), so that what happens to one query's scores happens in one lane
            part = UPPER_OUT if diagonal else ALL
            columns = padded(keys, FEW_ROWS)
            multiply_add(kT, j0 * D, BLOCK, qT, 0, BLOCK, probs, 0, BLOCK, columns, D, BLOCK, part, lanes)
            _online_softmax(probs, keys, diagonal, scale, highest, total, shrink)
            for i in range(BLOCK):
                if shrink[i] != 1:
                    for d in range(wide):
                        mean[i * wide + d] *= shrink[i]
            if dropout[0] < _KEEP_ALL:
                _draw(bh, i0, j0, dropout, words, keep)
                for n in range(BLOCK * BLOCK):
                    probs[n] *= keep[n]
            part = LOWER_A if diagonal else ALL
            multiply_add(probs, 0, BLOCK, values, j0 * wide, wide, mean, 0, wide, rows, keys, wide, part, lanes)
        for i in range(min(BLOCK, T - i0)):
            logsumexp[b, h, i0 + i] = highest[i] + math.log(total[i])
            share = 1 / total[i]
            for d in range(wide):
                mean[i * wide + d] *= share
        unpack(mean, 0, wide, out, b, h, i0, T - i0, D, lanes)


@jit
def _online_softmax(scores, keys, diagonal, scale, highest, total, shrink):
    """Turn the scores (keys, queries) into exp(score * scale - maximum so far), 0 after a query's own key if diagonal.

    highest, total: each query's maximum and sum so far. shrink: by what to multiply what was summed up before.
    """
    new = highest.copy()
    for j in range(keys):
        row = scores[j * BLOCK : (j + 1) * BLOCK]
        for i in range(BLOCK):
            row[i] *= scale
        if diagonal:
            row[:j] = -np.inf
        for i in range(BLOCK):
            new[i] = row[i] if row[i] > new[i] else new[i]
    for i in range(BLOCK):
        shrink[i] = exp(highest[i] - new[i])
        total[i] *= shrink[i]
        highest[i] = new[i]
    for j in range(keys):
        row = scores[j * BLOCK : (j + 1) * BLOCK]
        for i in range(BLOCK):
            row[i] = exp(row[i] - new[i])
            total[i] += row[i]


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
    b, h, wide, n_keys = bh // H, bh % H, padded(D, VECTORS * lanes), padded(S, BLOCK)
    qT, doutT, outT = _three(BLOCK * D, q[0])
    qs, douts, dqs = _three(BLOCK * wide, q[0])
    kT, vT = uninitialised(n_keys * D, q[0]), uninitialised(n_keys * D, q[0])
    ks, dks, dvs = _three(n_keys * wide, q[0])
    probs, dscores, turned = _three(BLOCK * BLOCK, q[0])
    keep, words, dots = np.ones(BLOCK * BLOCK, qs.dtype), np.empty((4, BLOCK), np.uint32), np.empty(BLOCK, qs.dtype)
    dks[:], dvs[:] = 0, 0
    for j0 in range(0, S, BLOCK):
        pack_transposed(k, b, h, j0, S - j0, D, kT, j0 * D, lanes)
        pack_transposed(v, b, h, j0, S - j0, D, vT, j0 * D, lanes)
        pack(k, b, h, j0, S - j0, D, wide, ks, j0 * wide, lanes)
    for i0 in range(0, T, BLOCK):
        pack_transposed(q, b, h, i0, T - i0, D, qT, 0, lanes)
        pack_transposed(dout, b, h, i0, T - i0, D, doutT, 0, lanes)
        pack_transposed(out, b, h, i0, T - i0, D, outT, 0, lanes)
        pack(q, b, h, i0, T - i0, D, wide, qs, 0, lanes)
        pack(dout, b, h, i0, T - i0, D, wide, douts, 0, lanes)
        dqs[:], dots[:] = 0, 0
        for d in range(D):
            for i in range(BLOCK):
                dots[i] += doutT[d * BLOCK + i] * outT[d * BLOCK + i]
        queries = min(BLOCK, T - i0)
        rows = padded(queries, FEW_ROWS)
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal, at = min(BLOCK, S - j0), causal and i0 == j0, j0 * wide
            columns = padded(keys, FEW_ROWS)
            probs[:], dscores[:] = 0, 0  # first dout @ v.T, the gradient of the probabilities after dropout
            part = LOWER_OUT if diagonal else ALL
            multiply_add(qT, 0, BLOCK, kT, j0 * D, BLOCK, probs, 0, BLOCK, rows, D, BLOCK, part, lanes)
            multiply_add(doutT, 0, BLOCK, vT, j0 * D, BLOCK, dscores, 0, BLOCK, rows, D, BLOCK, part, lanes)
            if dropout[0] < _KEEP_ALL:
                _draw(bh, i0, j0, dropout, words, turned)
                turn(turned, lanes, keep)
            for i in range(queries):
                seen, row = min(keys, i + 1) if diagonal else keys, slice(i * BLOCK, (i + 1) * BLOCK)
                _row_backward(probs[row], dscores[row], seen, scale, logsumexp[b, h, i0 + i], dots[i], keep[row])
            part = UPPER_A if diagonal else ALL
            multiply_add(probs, 0, BLOCK, douts, 0, wide, dvs, at, wide, columns, queries, wide, part, lanes)
            multiply_add(dscores, 0, BLOCK, qs, 0, wide, dks, at, wide, columns, queries, wide, part, lanes)
            turn(dscores, lanes, turned)
            part = LOWER_A if diagonal else ALL
            multiply_add(turned, 0, BLOCK, ks, at, wide, dqs, 0, wide, rows, keys, wide, part, lanes)
        unpack(dqs, 0, wide, dq, b, h, i0, T - i0, D, lanes)
    for j0 in range(0, S, BLOCK):
        unpack(dks, j0 * wide, wide, dk, b, h, j0, S - j0, D, lanes)
        unpack(dvs, j0 * wide, wide, dv, b, h, j0, S - j0, D, lanes)


@jit
def _row_backward(prob, dscore, seen, scale, lse, dot, keep):
    """Turn a query's scores into probabilities after dropout, and their gradient into that of the scores."""
    for j in range(BLOCK):  # all of it: a loop of known length has no rest that is done one by one
        p = exp(prob[j] * scale - lse)
        dscore[j] = p * (dscore[j] * keep[j] - dot) * scale
        prob[j] = p * keep[j]
    for j in range(seen, BLOCK):
        prob[j], dscore[j] = 0, 0
