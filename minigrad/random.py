"""Randomness without hidden state: everything is a function of (seed, step, stream, index).

A position on an endless tape: `seek(seed, step)` says where it stands, and each use of randomness takes the
next stream. The trainer seeks before every forward pass, so nothing has to be saved to resume a run.
"""

import numpy as np

from kernels.philox import derive_key, philox4x32

_SHUFFLE = 0x5348  # a stream of its own, so that the order of the data and dropout are independent
_position = [0, 0, 0]  # seed, step, next stream


def seek(seed, step=0, micro_batch=0):
    """Continue from (seed, step); `micro_batch` keeps the passes of one step apart."""
    _position[:] = seed, step, micro_batch << 20


def next_stream():
    """(seed, step, stream) for one use of randomness; each call gives another stream."""
    seed, step, stream = _position
    _position[2] = stream + 1
    return seed, step, stream


def generator():
    """A NumPy generator for one use of randomness on the host, such as drawing initial weights."""
    return np.random.Generator(np.random.Philox(key=derive_key(*next_stream())))


def uniform(shape, low=0.0, high=1.0):
    """float32 array drawn evenly from [low, high)."""
    return generator().uniform(low, high, shape).astype(np.float32)


def normal(shape, std=1.0):
    """float32 array drawn from N(0, std**2)."""
    return generator().standard_normal(shape, np.float32) * np.float32(std)


def shuffled(positions, n, seed, epoch):
    """Where each position of `range(n)` lands in the shuffle of this epoch: a permutation, entry by entry.

    positions: integer array, each in 0..n-1. Nothing of size n is made, so the millionth batch costs the same
    as the first. A Feistel network of four rounds permutes the next even power of two above n, and a result
    outside the range is sent through again until it lies inside ("cycle walking", Black & Rogaway 2002).
    """
    half = max(1, ((int(n) - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    half = np.uint64(half)
    out = np.asarray(positions, dtype=np.uint64).copy()
    if out.size and out.max() >= n:  # such a one might never land inside
        raise ValueError(f"positions must lie in 0..{n - 1}")
    todo = np.ones(out.shape, dtype=bool)
    while todo.any():
        left, right = out[todo] >> half, out[todo] & low
        for turn in range(4):
            word = philox4x32(right, turn, epoch & 0xFFFFFFFF, _SHUFFLE, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)[0]
            left, right = right, left ^ (word & low)
        out[todo] = (left << half) | right
        todo = out >= n
    return out.astype(np.int64)
