"""Causal attention in blocks with an online softmax: memory grows with T, never with T squared.

FlashAttention-2's order of work (Dao 2023, arXiv 2307.08691): forward takes a block of queries through the blocks of
keys, and keeps a running maximum, sum and weighted mean; backward forms the probabilities again from logsumexp. Each
(batch, head) pair is one thread's, so no two threads add to the same numbers.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import prange

from kernels import matmul_precision
from kernels.arrays import Array, Shape, empty
from kernels.attention import cpu_bfloat16
from kernels.attention.cpu_scores import (
    NO_DROPOUT,
    Dropout,
    Problem,
    ScoreBlock,
    dot_rows,
    dropout_mask_block,
    online_softmax,
    softmax_backward,
)
from kernels.cpu.aligned_allocation import aligned_empty
from kernels.cpu.attention_packing import (
    ALL,
    BLOCK_ROWS,
    LOWER_A,
    LOWER_OUT,
    UPPER_A,
    UPPER_OUT,
    Rows,
    base_and_strides,
    multiply_add,
    pack,
    pack_transposed,
    transpose_block,
    unpack,
)
from kernels.cpu.blocking import round_up
from kernels.cpu.compile import jit, launch
from kernels.cpu.micro_kernel import MR_SMALL, NR_VECTORS
from kernels.cpu.micro_kernel_bfloat16 import tile_config
from kernels.cpu.threads import get_num_threads
from kernels.cpu.vector_copies import Block, fetch_add, lanes
from kernels.philox import derive_key, keep_threshold


def attention_forward(
    q: Array, k: Array, v: Array, scale: float, causal: bool, p: float, seed: int, step: int, stream: int
) -> tuple[Array, Array]:
    """q (B, H, T, D), k and v (B, H, S, D), any strides -> out (B, H, T, D), logsumexp (B, H, T).

    `out` is laid out as (B, T, H, D) in memory, so that merging the heads afterwards needs no copy.
    """
    B, H, T, D = q.shape
    out, logsumexp = empty((B, T, H, D), q.dtype).transpose(0, 2, 1, 3), np.empty((B, H, T), q.dtype)
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs = [base_and_strides(x) for x in (q, k, v)]
    scale, work = q.dtype.type(scale), _nanoseconds(shape)
    kernel, registers = _forward, lanes(q.dtype)
    if matmul_precision.rounds(q.dtype):
        kernel, registers = cpu_bfloat16.forward, tile_config()
    threads = get_num_threads()
    launch(kernel, work, shape, *inputs, scale, causal, dropout, base_and_strides(out), logsumexp, registers, threads)
    return out, logsumexp


def attention_backward(
    dout: Array, q: Array, k: Array, v: Array, out: Array, logsumexp: Array, scale: float, causal: bool, p: float,
    seed: int, step: int, stream: int, into: Sequence[Array] | None = None,
) -> Sequence[Array]:  # fmt: skip
    """-> dq, dk, dv, shaped like q, k, v; written into the three arrays of `into` where it is given.

    The rows of `into`'s arrays are contiguous: their last axis is.
    """
    B, H, T, D = q.shape
    grads = tuple(empty(x.shape, x.dtype) for x in (q, k, v)) if into is None else into
    shape, dropout = (B, H, T, k.shape[2], D), _dropout(p, seed, step, stream, q.dtype)
    inputs, outputs = [base_and_strides(x) for x in (dout, q, k, v, out)], [base_and_strides(x) for x in grads]
    scale, work = q.dtype.type(scale), 2.5 * _nanoseconds(shape)
    kernel, registers = _backward, lanes(q.dtype)
    if matmul_precision.rounds(q.dtype):
        kernel, registers = cpu_bfloat16.backward, tile_config()
    threads = get_num_threads()
    launch(kernel, work, shape, *inputs, logsumexp, scale, causal, dropout, *outputs, registers, threads)
    return grads


def _nanoseconds(shape: Shape) -> float:
    """An estimate of forward's time on one thread: a few operations for every score, two for every product of it."""
    B, H, T, S, D = shape
    return B * H * T * S * (0.7 + 0.02 * D)


def _dropout(p: float, seed: int, step: int, stream: int, dtype: np.dtype) -> Dropout:
    k0, k1 = derive_key(seed, step, stream) if p else (0, 0)
    return Dropout(np.uint64(keep_threshold(p)), dtype.type(1.0 / (1.0 - p)), np.uint32(k0), np.uint32(k1))


@jit(parallel=True)
def _forward(shape, q, k, v, scale, causal, dropout, out, logsumexp, lanes, workers):
    B, H = shape[0], shape[1]
    counter = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _forward_memory(shape, q[0], lanes)
        problem = Problem(shape, scale, causal, dropout)
        bh = fetch_add(counter, 0)
        while bh < B * H:
            _forward_head(bh, problem, q, k, v, out, logsumexp, memory, lanes)
            bh = fetch_add(counter, 0)


@jit
def _forward_memory(shape, like, lanes):
    """A thread's memory for one head at a time."""
    _, _, _, S, D = shape
    width, n_keys = round_up(D, NR_VECTORS * lanes), round_up(S, BLOCK_ROWS)
    head = aligned_empty(n_keys * D, like), aligned_empty(n_keys * width, like)
    scores = aligned_empty(BLOCK_ROWS * BLOCK_ROWS, like)
    block = aligned_empty(BLOCK_ROWS * D, like), aligned_empty(BLOCK_ROWS * width, like), scores
    row = aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like)
    mask = aligned_empty(BLOCK_ROWS * BLOCK_ROWS, like), np.empty((4, BLOCK_ROWS), np.uint32)
    return head, block, row, mask


@jit
def _forward_head(bh, problem, q, k, v, out, logsumexp, memory, lanes):
    (_, H, T, S, D), scale, causal, dropout = problem
    b, h, width = bh // H, bh % H, round_up(D, NR_VECTORS * lanes)
    (kT, vs), (qT, mean, probs), (highest, total, shrink), (mask, words) = memory
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        pack_transposed(k, k_rows, kT, j0 * D, lanes)
        pack(v, k_rows, width, vs, j0 * width, lanes)
    for i0 in range(0, T, BLOCK_ROWS):
        q_rows = Rows(b, h, i0, T - i0, D)
        pack_transposed(q, q_rows, qT, 0, lanes)
        for n in range(BLOCK_ROWS * D):  # a block's queries once, not its scores with every block of keys
            qT[n] *= scale
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        rows = round_up(min(BLOCK_ROWS, T - i0), MR_SMALL)
        for j0 in range(0, min(S, i0 + BLOCK_ROWS) if causal else S, BLOCK_ROWS):
            keys, diagonal = min(BLOCK_ROWS, S - j0), causal and i0 == j0
            probs[:] = 0  # (keys, queries): a query's scores are all in one lane
            part = UPPER_OUT if diagonal else ALL
            columns = round_up(keys, MR_SMALL)
            kT_block, qT_block = Block(kT, j0 * D, BLOCK_ROWS), Block(qT, 0, BLOCK_ROWS)
            scores = Block(probs, 0, BLOCK_ROWS)
            multiply_add(kT_block, True, qT_block, scores, (columns, D, BLOCK_ROWS), part, lanes)
            online_softmax(probs, keys, diagonal, highest, total, shrink)
            for i in range(BLOCK_ROWS):
                if shrink[i] != 1:
                    for d in range(width):
                        mean[i * width + d] *= shrink[i]
            if dropout.threshold < NO_DROPOUT:
                dropout_mask_block(bh, i0, j0, dropout, words, mask)
                for n in range(BLOCK_ROWS * BLOCK_ROWS):
                    probs[n] *= mask[n]
            part = LOWER_A if diagonal else ALL
            values, means = Block(vs, j0 * width, width), Block(mean, 0, width)
            multiply_add(Block(probs, 0, BLOCK_ROWS), True, values, means, (rows, keys, width), part, lanes)
        for i in range(min(BLOCK_ROWS, T - i0)):
            logsumexp[b, h, i0 + i] = highest[i] + math.log(total[i])
            share = 1 / total[i]
            for d in range(width):
                mean[i * width + d] *= share
        unpack(mean, 0, width, out, q_rows, lanes)


@jit(parallel=True)
def _backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, lanes, workers):
    B, H = shape[0], shape[1]
    counter = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _backward_memory(shape, q[0], lanes)
        problem = Problem(shape, scale, causal, dropout)
        bh = fetch_add(counter, 0)
        while bh < B * H:
            _backward_head(bh, problem, dout, q, k, v, out, logsumexp, dq, dk, dv, memory, lanes)
            bh = fetch_add(counter, 0)


@jit
def _backward_memory(shape, like, lanes):
    """A thread's memory for one head at a time, backward."""
    _, _, _, S, D = shape
    width, n_keys, square = round_up(D, NR_VECTORS * lanes), round_up(S, BLOCK_ROWS), BLOCK_ROWS * BLOCK_ROWS
    size, block_size = n_keys * width, BLOCK_ROWS * width
    transposed = aligned_empty(n_keys * D, like), aligned_empty(n_keys * D, like)
    head = transposed, (aligned_empty(size, like), aligned_empty(size, like), aligned_empty(size, like))
    queries = aligned_empty(block_size, like), aligned_empty(block_size, like), aligned_empty(block_size, like)
    scores = aligned_empty(square, like), aligned_empty(square, like), aligned_empty(square, like)
    row = aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like)
    mask = np.ones(square, like.dtype), np.empty((4, BLOCK_ROWS), np.uint32)
    return head, (queries, scores), row, mask


@jit
def _backward_head(bh, problem, dout, q, k, v, out, logsumexp, dq, dk, dv, memory, lanes):
    (_, H, T, S, D), scale, causal, dropout = problem
    b, h, width, one = bh // H, bh % H, round_up(D, NR_VECTORS * lanes), dout[0].dtype.type(1)
    head, block, (lse, dots), (mask, words) = memory
    ((kT, vT), (ks, dks, dvs)), ((qs, douts, dqs), (probs, dscores, mask_T)) = head, block
    probs_block, dscores_block = Block(probs, 0, BLOCK_ROWS), Block(dscores, 0, BLOCK_ROWS)
    qs_block, douts_block, dqs_block = Block(qs, 0, width), Block(douts, 0, width), Block(dqs, 0, width)
    dks[:], dvs[:] = 0, 0
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        pack_transposed(k, k_rows, kT, j0 * D, lanes)
        pack_transposed(v, k_rows, vT, j0 * D, lanes)
        pack(k, k_rows, width, ks, j0 * width, lanes)
    for i0 in range(0, T, BLOCK_ROWS):
        q_rows = Rows(b, h, i0, T - i0, D)
        pack(q, q_rows, width, qs, 0, lanes)
        for n in range(BLOCK_ROWS * width):  # as in forward, so that these are the same scores to the last bit
            qs[n] *= scale
        pack(dout, q_rows, width, douts, 0, lanes)
        pack(out, q_rows, width, dqs, 0, lanes)  # dqs holds out until dots are formed
        dot_rows(douts, dqs, width, dots)
        dqs[:] = 0
        queries = min(BLOCK_ROWS, T - i0)
        rows = round_up(queries, MR_SMALL)
        for i in range(queries):
            lse[i] = logsumexp[b, h, i0 + i]
        for j0 in range(0, min(S, i0 + BLOCK_ROWS) if causal else S, BLOCK_ROWS):
            keys, diagonal = min(BLOCK_ROWS, S - j0), causal and i0 == j0
            columns = round_up(keys, MR_SMALL)
            kT_block, vT_block = Block(kT, j0 * D, BLOCK_ROWS), Block(vT, j0 * D, BLOCK_ROWS)
            ks_block = Block(ks, j0 * width, width)
            dks_block, dvs_block = Block(dks, j0 * width, width), Block(dvs, j0 * width, width)
            # First probs holds the scores and dscores the gradient of the probabilities.
            probs[:], dscores[:] = 0, 0
            part, size = LOWER_OUT if diagonal else ALL, (rows, D, BLOCK_ROWS)
            multiply_add(qs_block, False, kT_block, probs_block, size, part, lanes)
            multiply_add(douts_block, False, vT_block, dscores_block, size, part, lanes)
            if dropout.threshold < NO_DROPOUT:
                dropout_mask_block(bh, i0, j0, dropout, words, mask_T)
                transpose_block(mask_T, lanes, mask)
            softmax_backward(probs, dscores, ScoreBlock(queries, keys, diagonal), one, lse, dots, mask)
            part, size = UPPER_A if diagonal else ALL, (columns, queries, width)
            multiply_add(probs_block, True, douts_block, dvs_block, size, part, lanes)
            multiply_add(dscores_block, True, qs_block, dks_block, size, part, lanes)
            part = LOWER_A if diagonal else ALL
            multiply_add(dscores_block, False, ks_block, dqs_block, (rows, keys, width), part, lanes)
        for n in range(BLOCK_ROWS * width):
            dqs[n] *= scale
        unpack(dqs, 0, width, dq, q_rows, lanes)
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        unpack(dks, j0 * width, width, dk, k_rows, lanes)
        unpack(dvs, j0 * width, width, dv, k_rows, lanes)
