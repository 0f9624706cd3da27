"""Causal attention in tiles with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward, each block of queries meets the blocks of keys
one after another and keeps a running maximum, sum and weighted mean; backward forms the probabilities again from
logsumexp. Threads share out the (batch, head) pairs, so no two add into one place.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from kernels.arrays import empty
from kernels.cpu.compile import exp, jit, launch
from kernels.cpu.memory import uninitialised
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
    grads = tuple(empty(x.shape, x.dtype) for x in (q, k, v)) if into is None else into
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


# A loop over a block's numbers has an index for each axis, not one for both, which might be negative for all that the
# compiler knows; and takes no slice for a row: counting the references to the array costs as much as the row's numbers.


@jit
def _three(n, like):
    return uninitialised(n, like), uninitialised(n, like), uninitialised(n, like)


@jit
def _draw(bh, i0, j0, dropout, words, keep):
    """keep (keys, queries) = 0 or 1 / (1 - p) for a block from key j0 and query i0 on; words is memory.

    A score has lane j % 4 of the Philox counter (j // 4, i, b * H + h, 0).
    """
    threshold, scale, k0, k1 = dropout
    zero, none, rows = scale - scale, np.uint32(0), keep.reshape(BLOCK, BLOCK)
    for j in range(0, BLOCK, 4):
        first = np.uint32((j0 + j) // 4), np.uint32(i0)
        philox4x32(first, (none, np.uint32(1)), np.uint32(bh), none, k0, k1, words)
        for lane in range(4):
            for i in range(BLOCK):
                rows[j + lane, i] = scale if np.uint64(words[lane, i]) < threshold else zero


@jit(parallel=True)
def _forward(shape, q, k, v, scale, causal, dropout, out, logsumexp, lanes, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _forward_memory(shape, q[0], lanes)
        bh = take(taken, 0)
        while bh < B * H:
            _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, memory, lanes)
            bh = take(taken, 0)


@jit
def _forward_memory(shape, like, lanes):
    """What a thread needs for a head at a time."""
    _, _, _, S, D = shape
    wide, n_keys = padded(D, VECTORS * lanes), padded(S, BLOCK)
    head = uninitialised(n_keys * D, like), uninitialised(n_keys * wide, like)
    block = uninitialised(BLOCK * D, like), uninitialised(BLOCK * wide, like), uninitialised(BLOCK * BLOCK, like)
    return head, block, _three(BLOCK, like), (uninitialised(BLOCK * BLOCK, like), np.empty((4, BLOCK), np.uint32))


@jit
def _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, memory, lanes):
    _, H, T, S, D = shape
    b, h, wide = bh // H, bh % H, padded(D, VECTORS * lanes)
    (kT, vs), (qT, mean, probs), (highest, total, shrink), (keep, words) = memory
    for j0 in range(0, S, BLOCK):
        pack_transposed(k, b, h, j0, S - j0, D, kT, j0 * D, lanes)
        pack(v, b, h, j0, S - j0, D, wide, vs, j0 * wide, lanes)
    for i0 in range(0, T, BLOCK):
        pack_transposed(q, b, h, i0, T - i0, D, qT, 0, lanes)
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        rows = padded(min(BLOCK, T - i0), FEW_ROWS)
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal = min(BLOCK, S - j0), causal and i0 == j0
            probs[:] = 0  # (keys, queries), so that what happens to one query's scores happens in one lane
            part = UPPER_OUT if diagonal else ALL
            columns = padded(keys, FEW_ROWS)
            scores = probs, 0, BLOCK
            multiply_add((kT, j0 * D, BLOCK), True, (qT, 0, BLOCK), scores, (columns, D, BLOCK), part, lanes)
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
            values = vs, j0 * wide, wide
            multiply_add((probs, 0, BLOCK), True, values, (mean, 0, wide), (rows, keys, wide), part, lanes)
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
    scores = scores.reshape(BLOCK, BLOCK)
    for i in range(BLOCK):
        shrink[i] = highest[i]
    for j in range(keys):
        for i in range(BLOCK):
            scores[j, i] *= scale
        for i in range(j if diagonal else 0):
            scores[j, i] = -np.inf
        for i in range(BLOCK):
            highest[i] = scores[j, i] if scores[j, i] > highest[i] else highest[i]
    for i in range(BLOCK):
        shrink[i] = exp(shrink[i] - highest[i])
        total[i] *= shrink[i]
    for j in range(keys):
        for i in range(BLOCK):
            scores[j, i] = exp(scores[j, i] - highest[i])
            total[i] += scores[j, i]


@jit(parallel=True)
def _backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, lanes, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _backward_memory(shape, q[0], lanes)
        bh = take(taken, 0)
        while bh < B * H:
            _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, memory, lanes)
            bh = take(taken, 0)


@jit
def _backward_memory(shape, like, lanes):
    """What a thread needs for a head at a time, backward."""
    _, _, _, S, D = shape
    wide, n_keys = padded(D, VECTORS * lanes), padded(S, BLOCK)
    head = (uninitialised(n_keys * D, like), uninitialised(n_keys * D, like)), _three(n_keys * wide, like)
    block = _three(BLOCK * wide, like), _three(BLOCK * BLOCK, like)
    keep = np.ones(BLOCK * BLOCK, like.dtype), np.empty((4, BLOCK), np.uint32)
    return head, block, _three(BLOCK, like), keep


@jit
def _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, memory, lanes):
    _, H, T, S, D = shape
    b, h, wide = bh // H, bh % H, padded(D, VECTORS * lanes)
    head, block, (lse, dots, _), (keep, words) = memory
    ((kT, vT), (ks, dks, dvs)), ((qs, douts, dqs), (probs, dscores, turned)) = head, block
    dks[:], dvs[:] = 0, 0
    for j0 in range(0, S, BLOCK):
        pack_transposed(k, b, h, j0, S - j0, D, kT, j0 * D, lanes)
        pack_transposed(v, b, h, j0, S - j0, D, vT, j0 * D, lanes)
        pack(k, b, h, j0, S - j0, D, wide, ks, j0 * wide, lanes)
    for i0 in range(0, T, BLOCK):
        pack(q, b, h, i0, T - i0, D, wide, qs, 0, lanes)
        pack(dout, b, h, i0, T - i0, D, wide, douts, 0, lanes)
        pack(out, b, h, i0, T - i0, D, wide, dqs, 0, lanes)  # until the gradient comes there
        _dot_rows(douts, dqs, wide, dots)
        dqs[:] = 0
        queries = min(BLOCK, T - i0)
        rows = padded(queries, FEW_ROWS)
        for i in range(queries):
            lse[i] = logsumexp[b, h, i0 + i]
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal, at = min(BLOCK, S - j0), causal and i0 == j0, j0 * wide
            columns = padded(keys, FEW_ROWS)
            probs[:], dscores[:] = 0, 0
            scores, dprobs = (probs, 0, BLOCK), (dscores, 0, BLOCK)  # they become what these arrays are called
            part = LOWER_OUT if diagonal else ALL
            multiply_add((qs, 0, wide), False, (kT, j0 * D, BLOCK), scores, (rows, D, BLOCK), part, lanes)
            multiply_add((douts, 0, wide), False, (vT, j0 * D, BLOCK), dprobs, (rows, D, BLOCK), part, lanes)
            if dropout[0] < _KEEP_ALL:
                _draw(bh, i0, j0, dropout, words, turned)
                turn(turned, lanes, keep)
            _softmax_backward(probs, dscores, queries, keys, diagonal, scale, lse, dots, keep)
            part = UPPER_A if diagonal else ALL
            size = columns, queries, wide
            multiply_add((probs, 0, BLOCK), True, (douts, 0, wide), (dvs, at, wide), size, part, lanes)
            multiply_add((dscores, 0, BLOCK), True, (qs, 0, wide), (dks, at, wide), size, part, lanes)
            part = LOWER_A if diagonal else ALL
            multiply_add((dscores, 0, BLOCK), False, (ks, at, wide), (dqs, 0, wide), (rows, keys, wide), part, lanes)
        unpack(dqs, 0, wide, dq, b, h, i0, T - i0, D, lanes)
    for j0 in range(0, S, BLOCK):
        unpack(dks, j0 * wide, wide, dk, b, h, j0, S - j0, D, lanes)
        unpack(dvs, j0 * wide, wide, dv, b, h, j0, S - j0, D, lanes)


@jit
def _dot_rows(x, y, wide, dots):
    """dots (BLOCK,): each row of x (BLOCK, wide) times that of y, summed."""
    x, y = x.reshape(BLOCK, wide), y.reshape(BLOCK, wide)
    for i in range(BLOCK):
        dots[i] = 0
        for d in range(wide):
            dots[i] += x[i, d] * y[i, d]


@jit
def _softmax_backward(probs, dscores, queries, keys, diagonal, scale, lse, dots, keep):
    """Turn scores (queries, keys) into probabilities after dropout, and their gradient into that of the scores."""
    probs, dscores = probs.reshape(BLOCK, BLOCK), dscores.reshape(BLOCK, BLOCK)
    keep = keep.reshape(BLOCK, BLOCK)
    for i in range(queries):
        for j in range(BLOCK):  # all of it: a loop of known length has no rest that is done one by one
            p = exp(probs[i, j] * scale - lse[i])
            dscores[i, j] = p * (dscores[i, j] * keep[i, j] - dots[i]) * scale
            probs[i, j] = p * keep[i, j]
        for j in range(min(keys, i + 1) if diagonal else keys, BLOCK):
            probs[i, j], dscores[i, j] = 0, 0
