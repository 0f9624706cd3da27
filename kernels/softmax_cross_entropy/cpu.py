"""Softmax and cross-entropy in one kernel: each row of logits is read once forward and once backward.

Forward keeps a running maximum and a running sum of exponentials (Milakov & Gimelshein 2018), a block of the
vocabulary at a time, and saves one number a row. No second (N, V) array exists unless the caller wants one.
"""

import math

import numpy as np
from numba import prange

from kernels.arrays import Array, empty
from kernels.cpu.compile import EXP_SCALE, exp, jit, launch, scaled_exp
from kernels.cpu.vector_copies import lanes, largest

_VOCAB_BLOCK = 512  # logits of a row; a block stays in the first-level cache between its two loops


def softmax_cross_entropy_forward(
    logits: Array, targets: Array, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array]:
    """logits (..., V), targets (...), reduction "mean" | "sum" -> loss (), logsumexp (..., 2), divisor ()."""
    rows = np.ascontiguousarray(logits).reshape(-1, logits.shape[-1])
    targets = np.ascontiguousarray(targets).reshape(-1)
    losses, logsumexp, counted = launch(_forward, 0.7 * rows.size, rows, targets, ignore_index, lanes(rows.dtype))
    divisor = max(counted, 1) if reduction == "mean" else 1
    loss = np.asarray(losses.sum() / divisor, dtype=logits.dtype)
    return loss, logsumexp.reshape(*logits.shape[:-1], 2), np.asarray(divisor)


def softmax_cross_entropy_backward(
    dout: Array, logits: Array, targets: Array, logsumexp: Array, divisor: Array, ignore_index: int, overwrite: bool
) -> Array:
    """-> dlogits (..., V), written over `logits` if `overwrite`."""
    rows = np.ascontiguousarray(logits).reshape(-1, logits.shape[-1])
    dlogits = rows if overwrite else empty(rows.shape, rows.dtype)
    scale = logits.dtype.type(float(dout) / float(divisor))
    targets, logsumexp = targets.reshape(-1), logsumexp.reshape(-1, 2)
    launch(_backward, 0.9 * rows.size, rows, targets, logsumexp, scale, ignore_index, dlogits)
    return dlogits.reshape(logits.shape)


@jit(parallel=True)
def _forward(logits, targets, ignore_index, lanes):
    (N, V), flat = logits.shape, logits.reshape(-1)
    losses, logsumexp = np.zeros(N, np.float64), np.empty((N, 2), logits.dtype)
    counted = 0
    for n in prange(N):
        highest = logits.dtype.type(-np.inf)
        total = logits.dtype.type(0)
        for start in range(0, V, _VOCAB_BLOCK):
            stop = min(V, start + _VOCAB_BLOCK)
            block_highest = highest
            whole = stop - (stop - start) % lanes
            if whole > start:
                block_highest = largest(flat, n * V + start, whole - start, block_highest)
            for i in range(whole, stop):
                block_highest = max(block_highest, logits[n, i])
            # -inf so far (masked logits): shift by 0, since -inf - -inf would be NaN
            shift = block_highest if block_highest > -np.inf else logits.dtype.type(0)
            total = total * exp(highest - shift) + _sum_exp(logits[n, start:stop], shift)
            highest = block_highest
        log_sum = math.log(np.float64(total))
        logsumexp[n, 0], logsumexp[n, 1] = highest, log_sum
        if targets[n] != ignore_index:
            losses[n] = _loss(np.float64(highest), np.float64(logits[n, targets[n]]), log_sum)
            counted += 1
    return losses, logsumexp, counted


@jit(reorder=False)
def _loss(highest, chosen, log_sum):
    return (highest - chosen) + log_sum  # not (highest + log_sum) - chosen, which rounds a large number


@jit
def _sum_exp(x, shift):
    """The sum of exp(x - shift). x is a slice: indices from `start` on would not become vector code."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += exp(x[i] - shift)
    return total


@jit(parallel=True)
def _backward(logits, targets, logsumexp, scale, ignore_index, dlogits):
    N, V = logits.shape
    for n in prange(N):
        if targets[n] == ignore_index:
            for i in range(V):
                dlogits[n, i] = 0
        else:
            highest = logsumexp[n, 0]
            share = scale * logits.dtype.type(math.exp(-np.float64(logsumexp[n, 1])) / EXP_SCALE)
            for i in range(V):
                dlogits[n, i] = scaled_exp(logits[n, i] - highest) * share
            dlogits[n, targets[n]] -= scale
