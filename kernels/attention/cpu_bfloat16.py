"""Attention with the operands of its matrix products rounded to bfloat16; the sums and everything else are float32.

`kernels.attention.cpu` explains the order of work, `kernels.cpu.micro_kernel_bfloat16` the products. What is summed
over blocks, except dq, is transposed here, (D, queries) or (D, keys): then the probabilities and their gradients,
rounded anew for every pair of blocks, are packed without a transpose. Forward rounds the probabilities before they are
divided by their sum, the reference kernel after that.
"""

import math

import numpy as np
from numba import prange

from kernels.attention.cpu_scores import (
    NO_DROPOUT,
    Problem,
    ScoreBlock,
    dot_rows,
    dropout_mask_block,
    online_softmax,
    softmax_backward,
)
from kernels.cpu.aligned_allocation import aligned_empty
from kernels.cpu.attention_packing import BLOCK_ROWS, Rows, pack, transpose_block, unpack, unpack_transposed
from kernels.cpu.blocking import round_up
from kernels.cpu.compile import jit
from kernels.cpu.micro_kernel import Starts
from kernels.cpu.micro_kernel_bfloat16 import (
    MR,
    NR,
    STEP,
    TILE,
    configure_tiles,
    micro_kernel,
    pack_step,
    release_tiles,
)
from kernels.cpu.vector_copies import Block, fetch_add


@jit(parallel=True)
def forward(shape, q, k, v, scale, causal, dropout, out, logsumexp, config, workers):
    """`kernels.attention.cpu._forward` with rounded operands. config: of `tile_config`."""
    B, H = shape[0], shape[1]
    counter = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _forward_memory(shape, q[0])
        problem = Problem(shape, scale, causal, dropout)
        configure_tiles(config)
        bh = fetch_add(counter, 0)
        while bh < B * H:
            _forward_head(bh, problem, q, k, v, out, logsumexp, memory)
            bh = fetch_add(counter, 0)
        release_tiles()


@jit
def _forward_memory(shape, like):
    """A thread's memory for one head at a time. Two rounded numbers take the memory of one."""
    _, _, _, S, D = shape
    width, square = round_up(D, STEP), BLOCK_ROWS * BLOCK_ROWS
    size, block_size = round_up(S, BLOCK_ROWS) * width, BLOCK_ROWS * width
    head = aligned_empty(size // 2, like), aligned_empty(size // 2, like)
    packed = aligned_empty(block_size // 2, like), aligned_empty(square // 2, like)
    block = aligned_empty(block_size, like), aligned_empty(block_size, like), aligned_empty(square, like)
    row = aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like)
    mask = aligned_empty(square, like), np.empty((4, BLOCK_ROWS), np.uint32)
    return head, packed, block, row, mask, np.zeros(NR, like.dtype)


@jit
def _forward_head(bh, problem, q, k, v, out, logsumexp, memory):
    (_, H, T, S, D), scale, causal, dropout = problem
    b, h, width = bh // H, bh % H, round_up(D, STEP)  # a multiple of MR and NR too
    (ks, vTs), (qT, weights), (rows, mean, probs), (highest, total, shrink), (mask, words), zeros = memory
    mean_2d = mean.reshape(width, BLOCK_ROWS)
    zero_rows, mean_block = Block(zeros, 0, 0), Block(mean, 0, BLOCK_ROWS)
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        pack(k, k_rows, width, rows, 0, TILE)
        _pack_left(Block(rows, 0, width), (BLOCK_ROWS, width), False, ks, j0 * width // 2)
        pack(v, k_rows, width, rows, 0, TILE)
        _pack_left(Block(rows, 0, width), (width, BLOCK_ROWS), True, vTs, j0 * width // 2)
    for i0 in range(0, T, BLOCK_ROWS):
        q_rows = Rows(b, h, i0, T - i0, D)
        pack(q, q_rows, width, rows, 0, TILE)
        _pack_right(Block(rows, 0, width), (width, BLOCK_ROWS), width, True, qT, 0)
        highest[:], total[:], mean[:] = -np.inf, 0, 0
        for j0 in range(0, min(S, i0 + BLOCK_ROWS) if causal else S, BLOCK_ROWS):
            keys, diagonal, start = min(BLOCK_ROWS, S - j0), causal and i0 == j0, j0 * width // 2
            _multiply((ks, start), (qT, 0), (BLOCK_ROWS, width, BLOCK_ROWS), zero_rows, probs, 0)  # (keys, queries)
            for n in range(BLOCK_ROWS * BLOCK_ROWS):
                probs[n] *= scale
            online_softmax(probs, keys, diagonal, highest, total, shrink)
            for d in range(width):
                for i in range(BLOCK_ROWS):
                    mean_2d[d, i] *= shrink[i]
            if dropout.threshold < NO_DROPOUT:
                dropout_mask_block(bh, i0, j0, dropout, words, mask)
                for n in range(BLOCK_ROWS * BLOCK_ROWS):
                    probs[n] *= mask[n]
            _pack_right(Block(probs, 0, BLOCK_ROWS), (BLOCK_ROWS, BLOCK_ROWS), keys, False, weights, 0)
            _multiply((vTs, start), (weights, 0), (width, BLOCK_ROWS, BLOCK_ROWS), mean_block, mean, 0)
        for i in range(min(BLOCK_ROWS, T - i0)):
            logsumexp[b, h, i0 + i] = highest[i] + math.log(total[i])
        for d in range(width):
            for i in range(BLOCK_ROWS):
                mean_2d[d, i] /= total[i]
        unpack_transposed(mean, 0, out, q_rows, TILE)


@jit(parallel=True)
def backward(shape, dout, q, k, v, out, logsumexp, scale, causal, dropout, dq, dk, dv, config, workers):
    """`kernels.attention.cpu._backward` with rounded operands. config: of `tile_config`."""
    B, H = shape[0], shape[1]
    counter = np.zeros(1, np.int64)
    for _ in prange(workers):
        memory = _backward_memory(shape, q[0])
        problem = Problem(shape, scale, causal, dropout)
        configure_tiles(config)
        bh = fetch_add(counter, 0)
        while bh < B * H:
            _backward_head(bh, problem, dout, q, k, v, out, logsumexp, dq, dk, dv, memory)
            bh = fetch_add(counter, 0)
        release_tiles()


@jit
def _backward_memory(shape, like):
    """A thread's memory for one head at a time, backward."""
    _, _, _, S, D = shape
    width, square = round_up(D, STEP), BLOCK_ROWS * BLOCK_ROWS
    size, block_size = round_up(S, BLOCK_ROWS) * width, BLOCK_ROWS * width
    keys = aligned_empty(size // 2, like), aligned_empty(size // 2, like), aligned_empty(size // 2, like)
    head = keys, (aligned_empty(size, like), aligned_empty(size, like))
    queries = aligned_empty(block_size // 2, like), aligned_empty(block_size // 2, like)
    douts = aligned_empty(block_size // 2, like), aligned_empty(block_size // 2, like)
    probs = aligned_empty(square // 2, like), aligned_empty(square // 2, like), aligned_empty(square // 2, like)
    rows = aligned_empty(block_size, like), aligned_empty(block_size, like), aligned_empty(block_size, like)
    scores = aligned_empty(square, like), aligned_empty(square, like), aligned_empty(square, like)
    row = aligned_empty(BLOCK_ROWS, like), aligned_empty(BLOCK_ROWS, like)
    mask = np.ones(square, like.dtype), np.empty((4, BLOCK_ROWS), np.uint32)
    return head, (queries, douts, probs), (rows, scores), row, mask, np.zeros(NR, like.dtype)


@jit
def _backward_head(bh, problem, dout, q, k, v, out, logsumexp, dq, dk, dv, memory):
    (_, H, T, S, D), scale, causal, dropout = problem
    b, h, width = bh // H, bh % H, round_up(D, STEP)  # a multiple of MR and NR too
    head, packed, block, (lse, dots), (mask, words), zeros = memory
    (ks, kTs, vTs), (dkTs, dvTs) = head
    (qs, qT), (douts, doutT), (weights, dscores_left, dscores_right) = packed
    (rows, outs, dqs), (probs, dscores, mask_T) = block
    # the shapes of the products of which scores, dk and dv, and dq are the output
    scores_shape, sums_shape = (BLOCK_ROWS, width, BLOCK_ROWS), (width, BLOCK_ROWS, BLOCK_ROWS)
    dqs_shape, square = (BLOCK_ROWS, BLOCK_ROWS, width), (BLOCK_ROWS, BLOCK_ROWS)
    rows_block, zero_rows, dqs_block = Block(rows, 0, width), Block(zeros, 0, 0), Block(dqs, 0, width)
    probs_block, dscores_block = Block(probs, 0, BLOCK_ROWS), Block(dscores, 0, BLOCK_ROWS)
    dkTs[:], dvTs[:] = 0, 0
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        start = j0 * width // 2
        pack(k, k_rows, width, rows, 0, TILE)
        _pack_right(rows_block, (BLOCK_ROWS, width), BLOCK_ROWS, False, ks, start)
        _pack_right(rows_block, (width, BLOCK_ROWS), width, True, kTs, start)
        pack(v, k_rows, width, rows, 0, TILE)
        _pack_right(rows_block, (width, BLOCK_ROWS), width, True, vTs, start)
    for i0 in range(0, T, BLOCK_ROWS):
        q_rows = Rows(b, h, i0, T - i0, D)
        queries = min(BLOCK_ROWS, T - i0)
        pack(q, q_rows, width, rows, 0, TILE)
        _pack_left(rows_block, (BLOCK_ROWS, width), False, qs, 0)
        _pack_left(rows_block, (width, BLOCK_ROWS), True, qT, 0)
        pack(dout, q_rows, width, rows, 0, TILE)
        _pack_left(rows_block, (BLOCK_ROWS, width), False, douts, 0)
        _pack_left(rows_block, (width, BLOCK_ROWS), True, doutT, 0)
        pack(out, q_rows, width, outs, 0, TILE)
        dot_rows(rows, outs, width, dots)
        dqs[:] = 0
        for i in range(queries):
            lse[i] = logsumexp[b, h, i0 + i]
        for j0 in range(0, min(S, i0 + BLOCK_ROWS) if causal else S, BLOCK_ROWS):
            keys, diagonal, start = min(BLOCK_ROWS, S - j0), causal and i0 == j0, j0 * width // 2
            # First probs holds the scores (queries, keys) and dscores the gradient of the probabilities.
            _multiply((qs, 0), (kTs, start), scores_shape, zero_rows, probs, 0)
            _multiply((douts, 0), (vTs, start), scores_shape, zero_rows, dscores, 0)
            if dropout.threshold < NO_DROPOUT:
                dropout_mask_block(bh, i0, j0, dropout, words, mask_T)
                transpose_block(mask_T, TILE, mask)
            softmax_backward(probs, dscores, ScoreBlock(queries, keys, diagonal), scale, lse, dots, mask)
            _pack_right(probs_block, square, queries, False, weights, 0)
            _pack_right(dscores_block, square, queries, False, dscores_right, 0)
            _pack_left(dscores_block, square, False, dscores_left, 0)
            dvT_block, dkT_block = Block(dvTs, j0 * width, BLOCK_ROWS), Block(dkTs, j0 * width, BLOCK_ROWS)
            _multiply((doutT, 0), (weights, 0), sums_shape, dvT_block, dvTs, j0 * width)
            _multiply((qT, 0), (dscores_right, 0), sums_shape, dkT_block, dkTs, j0 * width)
            _multiply((dscores_left, 0), (ks, start), dqs_shape, dqs_block, dqs, 0)
        unpack(dqs, 0, width, dq, q_rows, TILE)
    for j0 in range(0, S, BLOCK_ROWS):
        k_rows = Rows(b, h, j0, S - j0, D)
        unpack_transposed(dkTs, j0 * width, dk, k_rows, TILE)
        unpack_transposed(dvTs, j0 * width, dv, k_rows, TILE)


@jit
def _multiply(a, b, shape, initial, out, out_start):
    """out (rows, columns) = initial + a (rows, depth) @ b (depth, columns), three multiples of MR, STEP and NR.

    a, b: (the array that panels are packed in, where the first begins). initial: Block; its stride is 0 for equal rows.
    """
    (rows, depth, columns), panel_size = shape, MR * shape[1] // 2
    for m in range(0, rows, MR):
        for n in range(0, columns, NR):
            a_start, b_start = a[1] + m // MR * panel_size, b[1] + n // NR * panel_size
            initial_start = initial.start + m * initial.stride + (n if initial.stride else 0)
            starts = Starts(a_start, b_start, initial_start, out_start + m * columns + n)
            micro_kernel(depth // STEP, a[0], b[0], initial.array, out, starts, initial.stride, columns)


@jit
def _pack_left(block, size, transposed, packed, start):
    """Round and pack a left operand (n, depth), from a Block of float32 numbers, or from that of its transpose."""
    _pack(block, transposed, transposed, size, size[1], packed, start)


@jit
def _pack_right(block, size, rows, transposed, packed, start):
    """Round and pack a right operand (depth, n), from a Block or from that of its transpose.

    The operand's rows from `rows` on count as zero.
    """
    _pack(block, not transposed, transposed, (size[1], size[0]), rows, packed, start)


@jit
def _pack(block, strided, transposed, size, end, packed, start):
    n, depth = size
    for across in range(0, n, MR):
        for along in range(0, depth, STEP):
            to = start + (across * depth + along * MR) // 2
            pack_step(block, strided, transposed, n, across, end, along, packed, to)
