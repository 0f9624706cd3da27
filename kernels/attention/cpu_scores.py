"""Attention's scores: softmax and dropout of blocks of them, forward and backward; all but the matrix products.

Loops over a block have an index for each axis: one index for both might be negative for all that the compiler knows.
They take no slice for a row: counting the references to the array would cost as much as the row's numbers.
"""

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.attention_packing import BLOCK_ROWS
from kernels.cpu.compile import exp, jit
from kernels.cpu.philox import philox4x32
from kernels.philox import keep_threshold

NO_DROPOUT = np.uint64(keep_threshold(0.0))  # the threshold that keeps all scores


class Dropout(NamedTuple):
    """What a block of the mask is a function of."""

    threshold: Any  # of `keep_threshold`, uint64
    scale: Any  # 1 / (1 - p)
    k0: Any  # the Philox key, uint32
    k1: Any


class Problem(NamedTuple):
    """What is the same for all heads."""

    shape: Any  # B, H, T, S, D
    scale: Any  # of the scores
    causal: bool
    dropout: Any  # Dropout


class ScoreBlock(NamedTuple):
    """A block of scores: how many of its queries and keys exist, and whether the causal mask's diagonal crosses it."""

    queries: int
    keys: int
    diagonal: bool


@jit
def dropout_mask_block(bh, i0, j0, dropout, words, mask):
    """mask (keys, queries) = 0 or 1 / (1 - p) for a block from key j0 and query i0 on.

    A score has lane j % 4 of the Philox counter (j // 4, i, b * H + h, 0). words (4, BLOCK_ROWS): scratch memory.
    """
    threshold, scale, k0, k1 = dropout
    zero, none, rows = scale - scale, np.uint32(0), mask.reshape(BLOCK_ROWS, BLOCK_ROWS)
    for j in range(0, BLOCK_ROWS, 4):
        first = np.uint32((j0 + j) // 4), np.uint32(i0)
        philox4x32(first, (none, np.uint32(1)), np.uint32(bh), none, k0, k1, words)
        for lane in range(4):
            for i in range(BLOCK_ROWS):
                rows[j + lane, i] = scale if np.uint64(words[lane, i]) < threshold else zero


@jit
def online_softmax(scores, keys, diagonal, highest, total, shrink):
    """Turn the scores (keys, queries) into exp(score - maximum so far), 0 after a query's own key if diagonal.

    highest, total: each query's maximum and sum so far. shrink: the factor for what was summed up before.
    Rows of scores from `keys` on become minus infinity; they must not be used.
    """
    scores = scores.reshape(BLOCK_ROWS, BLOCK_ROWS)
    for i in range(BLOCK_ROWS):
        shrink[i] = highest[i]
    for j in range(keys if diagonal else 0):
        for i in range(j):
            scores[j, i] = -np.inf
    for j in range(keys, BLOCK_ROWS):
        for i in range(BLOCK_ROWS):
            scores[j, i] = -np.inf
    for j in range(0, keys, 4):  # four at once, since each new maximum waits until the one before is stored
        for i in range(BLOCK_ROWS):
            first, second = _larger(scores[j, i], scores[j + 1, i]), _larger(scores[j + 2, i], scores[j + 3, i])
            highest[i] = _larger(_larger(first, second), highest[i])
    for i in range(BLOCK_ROWS):
        shrink[i] = exp(shrink[i] - highest[i])
        total[i] *= shrink[i]
    for j in range(keys):
        for i in range(BLOCK_ROWS):
            scores[j, i] = exp(scores[j, i] - highest[i])
            total[i] += scores[j, i]


@jit
def _larger(x, y):
    return x if x > y else y


@jit
def dot_rows(x, y, width, dots):
    """dots (BLOCK_ROWS,): the dot product of each row of x (BLOCK_ROWS, width) and that of y."""
    x, y = x.reshape(BLOCK_ROWS, width), y.reshape(BLOCK_ROWS, width)
    for i in range(BLOCK_ROWS):
        dots[i] = 0
        for d in range(width):
            dots[i] += x[i, d] * y[i, d]


@jit
def softmax_backward(probs, dscores, block, scale, lse, dots, mask):
    """Turn scores (queries, keys) into probabilities after dropout, and their gradient into that of the scores.

    block: ScoreBlock. scale: the factor by which the scores, and so their gradient, are still to be multiplied.
    """
    probs, dscores = probs.reshape(BLOCK_ROWS, BLOCK_ROWS), dscores.reshape(BLOCK_ROWS, BLOCK_ROWS)
    queries, keys, diagonal = block
    mask = mask.reshape(BLOCK_ROWS, BLOCK_ROWS)
    for i in range(queries):
        for j in range(BLOCK_ROWS):  # all keys: a loop of known length has no remainder that is done one by one
            p = exp(probs[i, j] * scale - lse[i])
            dscores[i, j] = p * (dscores[i, j] * mask[i, j] - dots[i]) * scale
            probs[i, j] = p * mask[i, j]
    for i in range(queries if diagonal or keys < BLOCK_ROWS else 0):
        seen = min(keys, i + 1) if diagonal else keys
        for j in range(BLOCK_ROWS):  # all keys, as above
            probs[i, j], dscores[i, j] = probs[i, j] if j < seen else 0, dscores[i, j] if j < seen else 0
