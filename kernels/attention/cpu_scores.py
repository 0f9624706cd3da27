"""Attention's scores: softmax and dropout of blocks of them, forward and backward; all but the matrix products.

A loop over a block's numbers has an index for each axis, not one for both, which might be negative for all that the
compiler knows; and takes no slice for a row: counting the references to the array costs as much as the row's numbers.
"""

import numpy as np

from kernels.cpu.attention_packing import BLOCK
from kernels.cpu.compile import exp, jit
from kernels.cpu.philox import philox4x32
from kernels.philox import keep_threshold

KEEP_ALL = np.uint64(keep_threshold(0.0))


@jit
def draw(bh, i0, j0, dropout, words, keep):
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


@jit
def online_softmax(scores, keys, diagonal, highest, total, shrink):
    """Turn the scores (keys, queries) into exp(score - maximum so far), 0 after a query's own key if diagonal.

    highest, total: each query's maximum and sum so far. shrink: by what to multiply what was summed up before.
    What lies behind so many keys becomes minus infinity, and must not be used.
    """
    scores = scores.reshape(BLOCK, BLOCK)
    for i in range(BLOCK):
        shrink[i] = highest[i]
    for j in range(keys if diagonal else 0):
        for i in range(j):
            scores[j, i] = -np.inf
    for j in range(keys, BLOCK):
        for i in range(BLOCK):
            scores[j, i] = -np.inf
    for j in range(0, keys, 4):  # four at once, since each new maximum waits until the one before is stored
        for i in range(BLOCK):
            first, second = _larger(scores[j, i], scores[j + 1, i]), _larger(scores[j + 2, i], scores[j + 3, i])
            highest[i] = _larger(_larger(first, second), highest[i])
    for i in range(BLOCK):
        shrink[i] = exp(shrink[i] - highest[i])
        total[i] *= shrink[i]
    for j in range(keys):
        for i in range(BLOCK):
            scores[j, i] = exp(scores[j, i] - highest[i])
            total[i] += scores[j, i]


@jit
def _larger(x, y):
    return x if x > y else y


@jit
def dot_rows(x, y, wide, dots):
    """dots (BLOCK,): each row of x (BLOCK, wide) times that of y, summed."""
    x, y = x.reshape(BLOCK, wide), y.reshape(BLOCK, wide)
    for i in range(BLOCK):
        dots[i] = 0
        for d in range(wide):
            dots[i] += x[i, d] * y[i, d]


@jit
def softmax_backward(probs, dscores, queries, keys, diagonal, scale, lse, dots, keep):
    """Turn scores (queries, keys) into probabilities after dropout, and their gradient into that of the scores.

    scale: what the scores are still to be multiplied with, and so their gradient.
    """
    probs, dscores = probs.reshape(BLOCK, BLOCK), dscores.reshape(BLOCK, BLOCK)
    keep = keep.reshape(BLOCK, BLOCK)
    for i in range(queries):
        for j in range(BLOCK):  # all of it: a loop of known length has no rest that is done one by one
            p = exp(probs[i, j] * scale - lse[i])
            dscores[i, j] = p * (dscores[i, j] * keep[i, j] - dots[i]) * scale
            probs[i, j] = p * keep[i, j]
    for i in range(queries if diagonal or keys < BLOCK else 0):
        seen = min(keys, i + 1) if diagonal else keys
        for j in range(BLOCK):  # likewise
            probs[i, j], dscores[i, j] = probs[i, j] if j < seen else 0, dscores[i, j] if j < seen else 0
