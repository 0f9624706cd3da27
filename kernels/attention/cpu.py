"""Causal attention in tiles with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward, each block of queries meets the blocks of keys
one after another and keeps a running maximum, sum and weighted mean; backward forms the probabilities again from
logsumexp. Threads share out the (batch, head) pairs, so no two add into one place.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from kernels import matmul_precision
from kernels.arrays import empty
from kernels.attention import cpu_bfloat16
from kernels.attention.cpu_scores import KEEP_ALL, dot_rows, draw, online_softmax, softmax_backward
from kernels.cpu.aligned_allocation import three, uninitialised
from kernels.cpu.attention_packing import (
    ALL,
    BLOCK,
    LOWER_A,
    LOWER_OUT,
    UPPER_A,
    UPPER_OUT,
    multiply_add,
    pack,
    pack_transposed,
    rows_of,
    turn,
    unpack,
)  # fmt: skip
from kernels.cpu.blocking import padded
from kernels.cpu.compile import jit, launch
from kernels.cpu.micro_kernel import FEW_ROWS, VECTORS
from kernels.cpu.micro_kernel_bfloat16 import tile_settings
from kernels.cpu.vector_ops import lanes, take
from kernels.philox import derive_key, keep_threshold


def attention_forward(q, k, v, scale, causal, p, seed, step, stream):
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T).

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy.
    """
    B, H, T, D = q.shape
    out, logsumexp = empty((B, T, H, D), q.dtype).transpose(0, 2, 1, 3), np.empty((B, H, T), q.dtype)
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs = [rows_of(x) for x in (q, k, v)]
    scale, work = q.dtype.type(scale), _nanoseconds(shape)
    kernel, registers = _forward, lanes(q.dtype)
    if matmul_precision.rounds(q.dtype):
        kernel, registers = cpu_bfloat16.forward, tile_settings()
    threads = get_num_threads()
    launch(kernel, work, shape, *inputs, scale, causal, dropout, rows_of(out), logsumexp, registers, threads)
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
    kernel, registers = _backward, lanes(q.dtype)
    if matmul_precision.rounds(q.dtype):
        kernel, registers = cpu_bfloat16.backward, tile_settings()
    threads = get_num_threads()
    launch(kernel, work, shape, *inputs, logsumexp, scale, causal, dropout, *outputs, registers, threads)
    return grads


def _nanoseconds(shape):
    """A guess at forward's time on one thread: a few operations for every score, two for every product of it."""
    B, H, T, S, D = shape
    return B * H * T * S * (0.7 + 0.02 * D)


def _dropout(p, seed, step, stream, dtype):
    """What a tile needs to draw its part of the mask: threshold (KEEP_ALL: no dropout), scale and key."""
    k0, k1 = derive_key(seed, step, stream) if p else (0, 0)
    return np.uint64(keep_threshold(p)), dtype.type(1.0 / (1.0 - p)), np.uint32(k0), np.uint32(k1)


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
    return head, block, three(BLOCK, like), (uninitialised(BLOCK * BLOCK, like), np.empty((4, BLOCK), np.uint32))


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
        for n in range(BLOCK * D):  # a block's queries once, not its scores with every block of keys
            qT[n] *= scale
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        rows = padded(min(BLOCK, T - i0), FEW_ROWS)
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal = min(BLOCK, S - j0), causal and i0 == j0
            probs[:] = 0  # (keys, queries), so that what happens to one query's scores happens in one lane
            part = UPPER_OUT if diagonal else ALL
            columns = padded(keys, FEW_ROWS)
            scores = probs, 0, BLOCK
            multiply_add((kT, j0 * D, BLOCK), True, (qT, 0, BLOCK), scores, (columns, D, BLOCK), part, lanes)
            online_softmax(probs, keys, diagonal, highest, total, shrink)
            for i in range(BLOCK):
                if shrink[i] != 1:
                    for d in range(wide):
                        mean[i * wide + d] *= shrink[i]
            if dropout[0] < KEEP_ALL:
                draw(bh, i0, j0, dropout, words, keep)
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
    head = (uninitialised(n_keys * D, like), uninitialised(n_keys * D, like)), three(n_keys * wide, like)
    block = three(BLOCK * wide, like), three(BLOCK * BLOCK, like)
    keep = np.ones(BLOCK * BLOCK, like.dtype), np.empty((4, BLOCK), np.uint32)
    return head, block, three(BLOCK, like), keep


@jit
def _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, memory, lanes):
    _, H, T, S, D = shape
    b, h, wide, one = bh // H, bh % H, padded(D, VECTORS * lanes), dout[0].dtype.type(1)
    head, block, (lse, dots, _), (keep, words) = memory
    ((kT, vT), (ks, dks, dvs)), ((qs, douts, dqs), (probs, dscores, turned)) = head, block
    dks[:], dvs[:] = 0, 0
    for j0 in range(0, S, BLOCK):
        pack_transposed(k, b, h, j0, S - j0, D, kT, j0 * D, lanes)
        pack_transposed(v, b, h, j0, S - j0, D, vT, j0 * D, lanes)
        pack(k, b, h, j0, S - j0, D, wide, ks, j0 * wide, lanes)
    for i0 in range(0, T, BLOCK):
        pack(q, b, h, i0, T - i0, D, wide, qs, 0, lanes)
        for n in range(BLOCK * wide):  # as in forward, so that these are the same scores to the last bit
            qs[n] *= scale
        pack(dout, b, h, i0, T - i0, D, wide, douts, 0, lanes)
        pack(out, b, h, i0, T - i0, D, wide, dqs, 0, lanes)  # until the gradient comes there
        dot_rows(douts, dqs, wide, dots)
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
            if dropout[0] < KEEP_ALL:
                draw(bh, i0, j0, dropout, words, turned)
                turn(turned, lanes, keep)
            softmax_backward(probs, dscores, queries, keys, diagonal, one, lse, dots, keep)
            part = UPPER_A if diagonal else ALL
            size = columns, queries, wide
            multiply_add((probs, 0, BLOCK), True, (douts, 0, wide), (dvs, at, wide), size, part, lanes)
            multiply_add((dscores, 0, BLOCK), True, (qs, 0, wide), (dks, at, wide), size, part, lanes)
            part = LOWER_A if diagonal else ALL
            multiply_add((dscores, 0, BLOCK), False, (ks, at, wide), (dqs, 0, wide), (rows, keys, wide), part, lanes)
        for n in range(BLOCK * wide):
            dqs[n] *= scale
        unpack(dqs, 0, wide, dq, b, h, i0, T - i0, D, lanes)
    for j0 in range(0, S, BLOCK):
        unpack(dks, j0 * wide, wide, dk, b, h, j0, S - j0, D, lanes)
        unpack(dvs, j0 * wide, wide, dv, b, h, j0, S - j0, D, lanes)
