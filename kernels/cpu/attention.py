"""Causal attention in tiles with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward, each tile of queries meets the tiles
of keys one after another and keeps a running maximum, sum and weighted mean; backward forms the
probabilities again from logsumexp. Threads share out the (batch, head) pairs, so no two add into one place.
"""

import math

import numpy as np
from numba import prange

from kernels.cpu.compile import exp, jit, launch
from kernels.cpu.philox import philox4x32
from kernels.cpu.tiles import matmul_add, pack, pack_transposed, rows_of, unpack
from kernels.philox import derive_key, keep_threshold

_KEEP_ALL = np.uint64(keep_threshold(0.0))
_TILE = 64  # queries and keys a tile; a multiple of 16


def attention_forward(q, k, v, scale, causal, p, seed, step, stream):
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T).

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy.
    """
    B, H, T, D = q.shape
    out, logsumexp = np.empty((B, T, H, D), q.dtype).transpose(0, 2, 1, 3), np.empty((B, H, T), q.dtype)
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs = [rows_of(x) for x in (q, k, v)]
    scale, work = q.dtype.type(scale), _nanoseconds(shape)
    launch(_forward, work, shape, *inputs, scale, causal, dropout, rows_of(out), logsumexp)
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
    launch(_backward, work, shape, *inputs, logsumexp, scale, causal, dropout, *outputs)
    return grads


def _nanoseconds(shape):
    """A guess at forward's time on one thread: a few operations for every score, two for every product of it."""
    B, H, T, S, D = shape
    return B * H * T * S * (2.0 + 0.04 * D)


def _dropout(p, seed, step, stream, dtype):
    """What a tile needs to draw its part of the mask: threshold (_KEEP_ALL: no dropout), scale and key."""
    k0, k1 = derive_key(seed, step, stream) if p else (0, 0)
    return np.uint64(keep_threshold(p)), dtype.type(1.0 / (1.0 - p)), np.uint32(k0), np.uint32(k1)


@jit
def _padded(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@jit
def _scores(q, kT, first_i, first_j, S, scale, causal, s):
    """s (rows, columns) = scaled scores of a tile of queries and one of keys; -inf where nothing is to be seen."""
    s[:] = 0
    diagonal = causal and first_i == first_j
    matmul_add(q, kT, s, s.shape[0], kT.shape[0], 1 if diagonal else 0)
    hidden = s.dtype.type(-np.inf)
    for i in range(s.shape[0]):
        seen = min(s.shape[1], S - first_j)
        if causal:
            seen = min(seen, first_i + i - first_j + 1)
        row = s[i]
        for j in range(row.size):
            row[j] = row[j] * scale if j < seen else hidden


@jit
def _mask(bh, first_i, first_j, dropout, mask):
    """mask = 0 or 1 / (1 - p): lane j % 4 of the Philox counter (j // 4, i, b * H + h, 0)."""
    threshold, scale, k0, k1 = dropout
    zero = mask.dtype.type(0)
    for i in range(mask.shape[0]):
        for j4 in range(mask.shape[1] // 4):
            counter = np.uint32(first_j // 4 + j4)
            w0, w1, w2, w3 = philox4x32(counter, np.uint32(first_i + i), np.uint32(bh), np.uint32(0), k0, k1)
            mask[i, 4 * j4] = scale if np.uint64(w0) < threshold else zero
            mask[i, 4 * j4 + 1] = scale if np.uint64(w1) < threshold else zero
            mask[i, 4 * j4 + 2] = scale if np.uint64(w2) < threshold else zero
            mask[i, 4 * j4 + 3] = scale if np.uint64(w3) < threshold else zero


@jit
def _online_softmax(s, highest, total, acc):
    """Turn scores s into exp(s - maximum so far), and rescale what earlier tiles left in total and acc."""
    for i in range(s.shape[0]):
        row, old, row_total = s[i], highest[i], s.dtype.type(0)
        new = old
        for j in range(row.size):
            new = row[j] if row[j] > new else new
        for j in range(row.size):
            row[j] = exp(row[j] - new)
        for j in range(row.size):
            row_total += row[j]
        if new > old:
            shrink = exp(old - new)
            for d in range(acc.shape[1]):
                acc[i, d] *= shrink
            total[i] *= shrink
            highest[i] = new
        total[i] += row_total


@jit(parallel=True)
def _forward(shape, q, k, v, scale, causal, dropout, out, logsumexp):
    B, H, T, S, D = shape
    width, size = _padded(D, 16), min(_TILE, _padded(max(T, S), 16))
    real = logsumexp.dtype
    for bh in prange(B * H):
        b, h = bh // H, bh % H
        qs, vs = pack(q, b, h, T, D, size, width), pack(v, b, h, S, D, size, width)
        kTs = pack_transposed(k, b, h, S, D, size, width)
        outs = np.zeros_like(qs)
        s, mask = np.empty((size, size), real), np.empty((size, size), real)
        highest, total = np.empty(size, real), np.empty(size, real)
        for ti in range(len(qs)):
            acc = outs[ti]
            highest[:] = -np.inf
            total[:] = 0
            for tj in range(min(ti + 1, len(kTs)) if causal else len(kTs)):
                _scores(qs[ti], kTs[tj], ti * size, tj * size, S, scale, causal, s)
                _online_softmax(s, highest, total, acc)
                if dropout[0] < _KEEP_ALL:
                    _mask(bh, ti * size, tj * size, dropout, mask)
                    for i in range(size):
                        for j in range(size):
                            s[i, j] *= mask[i, j]
                matmul_add(s, vs[tj], acc, size, size, 2 if causal and ti == tj else 0)
            for i in range(min(size, T - ti * size)):
                logsumexp[b, h, ti * size + i] = highest[i] + math.log(total[i])
                share = 1 / total[i]
                for d in range(width):
                    acc[i, d] *= share
        unpack(outs, out, b, h, T, D)


@jit(parallel=True)
def _backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv):
    B, H, T, S, D = shape
    width, size = _padded(D, 16), min(_TILE, _padded(max(T, S), 16))
    real = logsumexp.dtype
    for bh in prange(B * H):
        b, h = bh // H, bh % H
        qs, ks = pack(q, b, h, T, D, size, width), pack(k, b, h, S, D, size, width)
        douts, outs = pack(dout, b, h, T, D, size, width), pack(out, b, h, T, D, size, width)
        kTs, vTs = pack_transposed(k, b, h, S, D, size, width), pack_transposed(v, b, h, S, D, size, width)
        dqs, dks, dvs = np.zeros_like(qs), np.zeros_like(ks), np.zeros_like(ks)
        probs, dscores = np.empty((size, size), real), np.empty((size, size), real)
        mask = np.ones((size, size), real)
        for ti in range(len(qs)):
            n_rows = min(size, T - ti * size)
            for tj in range(min(ti + 1, len(kTs)) if causal else len(kTs)):
                diagonal = causal and ti == tj
                _scores(qs[ti], kTs[tj], ti * size, tj * size, S, scale, causal, probs)
                dscores[:] = 0  # first dout @ v.T, the gradient of the probabilities after dropout
                matmul_add(douts[ti], vTs[tj], dscores, size, width, 1 if diagonal else 0)
                if dropout[0] < _KEEP_ALL:
                    _mask(bh, ti * size, tj * size, dropout, mask)
                for i in range(n_rows):
                    prob, dscore, keep = probs[i], dscores[i], mask[i]
                    lse, dot = logsumexp[b, h, ti * size + i], real.type(0)
                    for d in range(width):
                        dot += douts[ti, i, d] * outs[ti, i, d]
                    for j in range(size):
                        prob[j] = exp(prob[j] - lse)
                    for j in range(size):
                        dscore[j] = prob[j] * (dscore[j] * keep[j] - dot) * scale
                        prob[j] *= keep[j]
                probs[n_rows:], dscores[n_rows:] = 0, 0  # queries that pad the last tile
                matmul_add(probs.T, douts[ti], dvs[tj], size, size, 3 if diagonal else 0)
                matmul_add(dscores, ks[tj], dqs[ti], size, size, 2 if diagonal else 0)
                matmul_add(dscores.T, qs[ti], dks[tj], size, size, 3 if diagonal else 0)
        unpack(dqs, dq, b, h, T, D)
        unpack(dks, dk, b, h, S, D)
        unpack(dvs, dv, b, h, S, D)
