"""Attention whose products' factors are rounded to bfloat16; the sums and all that is not a product are float32.

`kernels.attention.cpu` says how it goes, `kernels.cpu.micro_kernel_bfloat16` how such products are formed. What adds up
over blocks, but for dq, lies transposed here, (D, queries) or (D, keys): then the probabilities and their gradients,
rounded anew for every pair of blocks, are packed as they lie. Forward rounds them before they are divided by their sum,
the plain kernel after.
"""

import math

import numpy as np
from numba import prange

from kernels.attention.cpu_scores import KEEP_ALL, dot_rows, draw, online_softmax, softmax_backward
from kernels.cpu.aligned_allocation import three, uninitialised
from kernels.cpu.attention_packing import BLOCK, pack, turn, unpack, unpack_transposed
from kernels.cpu.blocking import padded
from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel_bfloat16 import PANEL, SIDE, begin_tiles, end_tiles, pack_step, product
from kernels.cpu.vector_ops import take


@jit(parallel=True)
def forward(shape, q, k, v, scale, causal, dropout, out, logsumexp, tiles, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _forward_memory(shape, q[0])
        begin_tiles(tiles)
        bh = take(taken, 0)
        while bh < B * H:
            _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, memory)
            bh = take(taken, 0)
        end_tiles()


@jit
def _forward_memory(shape, like):
    """What a thread needs for a head at a time. Two rounded numbers take the room of one."""
    _, _, _, S, D = shape
    wide = padded(D, PANEL)
    head = uninitialised(padded(S, BLOCK) * wide // 2, like), uninitialised(padded(S, BLOCK) * wide // 2, like)
    packed = uninitialised(BLOCK * wide // 2, like), uninitialised(BLOCK * BLOCK // 2, like)
    block = uninitialised(BLOCK * wide, like), uninitialised(wide * BLOCK, like), uninitialised(BLOCK * BLOCK, like)
    keep = uninitialised(BLOCK * BLOCK, like), np.empty((4, BLOCK), np.uint32)
    return head, packed, block, three(BLOCK, like), keep, np.zeros(PANEL, like.dtype)


@jit
def _forward_head(bh, shape, q, k, v, scale, causal, dropout, out, logsumexp, memory):
    _, H, T, S, D = shape
    b, h, wide = bh // H, bh % H, padded(D, PANEL)
    (ks, vTs), (qT, weights), (rows, mean, probs), (highest, total, shrink), (keep, words), zeros = memory
    of_means = mean.reshape(wide, BLOCK)
    for j0 in range(0, S, BLOCK):
        pack(k, b, h, j0, S - j0, D, wide, rows, 0, SIDE)
        _round_left(rows, wide, (BLOCK, wide), False, ks, j0 * wide // 2)
        pack(v, b, h, j0, S - j0, D, wide, rows, 0, SIDE)
        _round_left(rows, wide, (wide, BLOCK), True, vTs, j0 * wide // 2)
    for i0 in range(0, T, BLOCK):
        pack(q, b, h, i0, T - i0, D, wide, rows, 0, SIDE)
        _round_right(rows, wide, (wide, BLOCK), wide, True, qT, 0)
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal, at = min(BLOCK, S - j0), causal and i0 == j0, j0 * wide // 2
            _multiply((ks, at), (qT, 0), (BLOCK, wide, BLOCK), (zeros, 0, 0), probs, 0)  # (keys, queries)
            for n in range(BLOCK * BLOCK):
                probs[n] *= scale
            online_softmax(probs, keys, diagonal, highest, total, shrink)
            for d in range(wide):
                for i in range(BLOCK):
                    of_means[d, i] *= shrink[i]
            if dropout[0] < KEEP_ALL:
                draw(bh, i0, j0, dropout, words, keep)
                for n in range(BLOCK * BLOCK):
                    probs[n] *= keep[n]
            _round_right(probs, BLOCK, (BLOCK, BLOCK), keys, False, weights, 0)
            _multiply((vTs, at), (weights, 0), (wide, BLOCK, BLOCK), (mean, 0, BLOCK), mean, 0)
        for i in range(min(BLOCK, T - i0)):
            logsumexp[b, h, i0 + i] = highest[i] + math.log(total[i])
        for d in range(wide):
            for i in range(BLOCK):
                of_means[d, i] /= total[i]
        unpack_transposed(mean, 0, out, b, h, i0, T - i0, D, SIDE)


@jit(parallel=True)
def backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, tiles, workers):
    B, H = shape[0], shape[1]
    taken = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _backward_memory(shape, q[0])
        begin_tiles(tiles)
        bh = take(taken, 0)
        while bh < B * H:
            _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, memory)
            bh = take(taken, 0)
        end_tiles()


@jit
def _backward_memory(shape, like):
    """What a thread needs for a head at a time, backward."""
    _, _, _, S, D = shape
    wide, n_keys = padded(D, PANEL), padded(S, BLOCK)
    head = three(n_keys * wide // 2, like), (uninitialised(wide * n_keys, like), uninitialised(wide * n_keys, like))
    packed = three(BLOCK * wide // 2, like), uninitialised(BLOCK * wide // 2, like), three(BLOCK * BLOCK // 2, like)
    block = three(BLOCK * wide, like), three(BLOCK * BLOCK, like)
    keep = np.ones(BLOCK * BLOCK, like.dtype), np.empty((4, BLOCK), np.uint32)
    return head, packed, block, three(BLOCK, like), keep, np.zeros(PANEL, like.dtype)


@jit
def _backward_head(bh, shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, memory):
    _, H, T, S, D = shape
    b, h, wide = bh // H, bh % H, padded(D, PANEL)
    head, packed, block, (lse, dots, _), (keep, words), zeros = memory
    (ks, kTs, vTs), (dkTs, dvTs) = head
    (qs, qT, douts), doutT, (weights, dscores_left, dscores_right) = packed
    (rows, outs, dqs), (probs, dscores, turned) = block
    of_scores, of_sums, of_dqs = (BLOCK, wide, BLOCK), (wide, BLOCK, BLOCK), (BLOCK, BLOCK, wide)  # products' shapes
    dkTs[:], dvTs[:] = 0, 0
    for j0 in range(0, S, BLOCK):
        at = j0 * wide // 2
        pack(k, b, h, j0, S - j0, D, wide, rows, 0, SIDE)
        _round_right(rows, wide, (BLOCK, wide), BLOCK, False, ks, at)
        _round_right(rows, wide, (wide, BLOCK), wide, True, kTs, at)
        pack(v, b, h, j0, S - j0, D, wide, rows, 0, SIDE)
        _round_right(rows, wide, (wide, BLOCK), wide, True, vTs, at)
    for i0 in range(0, T, BLOCK):
        queries = min(BLOCK, T - i0)
        pack(q, b, h, i0, T - i0, D, wide, rows, 0, SIDE)
        _round_left(rows, wide, (BLOCK, wide), False, qs, 0)
        _round_left(rows, wide, (wide, BLOCK), True, qT, 0)
        pack(dout, b, h, i0, T - i0, D, wide, rows, 0, SIDE)
        _round_left(rows, wide, (BLOCK, wide), False, douts, 0)
        _round_left(rows, wide, (wide, BLOCK), True, doutT, 0)
        pack(out, b, h, i0, T - i0, D, wide, outs, 0, SIDE)
        dot_rows(rows, outs, wide, dots)
        dqs[:] = 0
        for i in range(queries):
            lse[i] = logsumexp[b, h, i0 + i]
        for j0 in range(0, min(S, i0 + BLOCK) if causal else S, BLOCK):
            keys, diagonal, at = min(BLOCK, S - j0), causal and i0 == j0, j0 * wide // 2
            # (queries, keys): scores, and the gradients of probabilities; they become what these arrays are called
            _multiply((qs, 0), (kTs, at), of_scores, (zeros, 0, 0), probs, 0)
            _multiply((douts, 0), (vTs, at), of_scores, (zeros, 0, 0), dscores, 0)
            if dropout[0] < KEEP_ALL:
                draw(bh, i0, j0, dropout, words, turned)
                turn(turned, SIDE, keep)
            softmax_backward(probs, dscores, queries, keys, diagonal, scale, lse, dots, keep)
            _round_right(probs, BLOCK, (BLOCK, BLOCK), queries, False, weights, 0)
            _round_right(dscores, BLOCK, (BLOCK, BLOCK), queries, False, dscores_right, 0)
            _round_left(dscores, BLOCK, (BLOCK, BLOCK), False, dscores_left, 0)
            _multiply((doutT, 0), (weights, 0), of_sums, (dvTs, j0 * wide, BLOCK), dvTs, j0 * wide)
            _multiply((qT, 0), (dscores_right, 0), of_sums, (dkTs, j0 * wide, BLOCK), dkTs, j0 * wide)
            _multiply((dscores_left, 0), (ks, at), of_dqs, (dqs, 0, wide), dqs, 0)
        unpack(dqs, 0, wide, dq, b, h, i0, T - i0, D, SIDE)
    for j0 in range(0, S, BLOCK):
        unpack_transposed(dkTs, j0 * wide, dk, b, h, j0, S - j0, D, SIDE)
        unpack_transposed(dvTs, j0 * wide, dv, b, h, j0, S - j0, D, SIDE)


@jit
def _multiply(a, b, shape, start, out, at):
    """out (rows, columns) = start + a (rows, depth) @ b (depth, columns), three multiples of PANEL.

    a, b: (what panels are packed in, where the first begins). start: (an array, where to begin, its rows' distance).
    """
    (rows, depth, columns), (first, first_at, first_step), panel = shape, start, PANEL * shape[1] // 2
    for m in range(0, rows, PANEL):
        for n in range(0, columns, PANEL):
            left, right = a[1] + m // PANEL * panel, b[1] + n // PANEL * panel
            here, to = first_at + m * first_step + (n if first_step else 0), at + m * columns + n
            product(depth // PANEL, a[0], left, b[0], right, first, here, first_step, out, to, columns)


@jit
def _round_left(block, step, size, turned, packed, at):
    """A left factor (n, depth) in panels, from a block of float32 numbers whose rows are `step` apart.

    turned: the block is its transpose.
    """
    _round((block, 0, step), turned, turned, size, size[1], packed, at)


@jit
def _round_right(block, step, size, seen, turned, packed, at):
    """A right factor (depth, n), likewise; its rows from `seen` on are taken for zero."""
    _round((block, 0, step), not turned, turned, (size[1], size[0]), seen, packed, at)


@jit
def _round(place, strided, turned, size, seen, packed, at):
    n, depth = size
    for across in range(0, n, PANEL):
        for along in range(0, depth, PANEL):
            to = at + (across * depth + along * PANEL) // 2
            pack_step(place, strided, turned, n, across, seen, along, packed, to)
