"""Randomness without hidden state: everything is a function of (seed, step, stream, index).

A position on an endless tape, one for each thread: `seek(seed, step)` says where it stands, and each use of randomness
takes the next stream. Threads that do not seek draw different numbers. The trainer seeks before every forward pass, so
nothing has to be saved to resume a run.
"""

import functools
import itertools
import numbers
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.philox import derive_key, philox4x32
from kernels.system.printable import brief

_SHUFFLE = 0x5348  # a stream of its own, so that the order of the data and dropout are independent
_WORD = (1 << 64) - 1
_FEW = 16  # numbers that take less time one by one, as Python's, than as an array

_Numbers = TypeVar("_Numbers", int, Array)

_threads = itertools.count()


class _Tape(threading.local):
    def __init__(self) -> None:
        self.position: tuple[int, int, int] = 0, 0, next(_threads) << 48  # seed, step, next stream


_tape = _Tape()


def seek(seed: int, step: int = 0, micro_batch: int = 0) -> None:
    """Continue from (seed, step); `micro_batch` keeps the passes of one step apart."""
    _tape.position = seed, step, micro_batch << 20


def manual_seed(seed: int) -> None:
    """Begin the random numbers of this thread anew: after the same seed come the same numbers, as in PyTorch.

    seed: an integer; of one outside of 64 bits the last 64 count. Raises TypeError for anything else.
    """
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise TypeError(f"the seed is {brief(seed)}; expected an integer")
    seek(int(seed))


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is done inside, the position afterwards is the one before."""
    before = _tape.position
    try:
        yield
    finally:
        _tape.position = before


def next_stream() -> tuple[int, int, int]:
    """(seed, step, stream) for one use of randomness; each call gives another stream."""
    seed, step, stream = _tape.position
    _tape.position = seed, step, stream + 1
    return seed, step, stream


def generator() -> np.random.Generator:
    """A NumPy generator for one use of randomness on the host, such as drawing initial weights."""
    return np.random.Generator(np.random.Philox(key=derive_key(*next_stream())))


def uniform(low: float = 0.0, high: float = 1.0, size: int | tuple[int, ...] | None = None) -> np.ndarray:
    """A float32 array of this size, drawn uniformly from [low, high). Each call takes the next stream of the tape."""
    _require_numbers("uniform", low, high)
    return np.asarray(generator().uniform(low, high, size), np.float32)


def normal(loc: float = 0.0, scale: float = 1.0, size: int | tuple[int, ...] | None = None) -> np.ndarray:
    """A float32 array of this size, drawn from N(loc, scale**2). Each call takes the next stream of the tape."""
    _require_numbers("normal", loc, scale)
    drawn = np.asarray(generator().standard_normal(size, np.float32), np.float32) * np.float32(scale)
    return np.asarray(drawn + np.float32(loc) if loc else drawn)


def _require_numbers(name: str, *numbers: Any) -> None:
    """TypeError for a size where NumPy's order of arguments has a number."""
    if any(isinstance(number, (tuple, list)) for number in numbers):
        raise TypeError(f"{name}: {numbers} are two numbers; the size is the third argument, or size=")


def shuffled(positions: npt.ArrayLike, n: int, seed: int, epoch: int) -> Array:
    """Where each position of `range(n)` lands in the shuffle of this epoch: a permutation, entry by entry.

    positions: integer array, each in 0..n-1. Nothing of size n is made, so the millionth batch costs the same
    as the first. A Feistel network of four rounds permutes the next even power of two above n, and a result
    outside the range is sent through again until it lies inside ("cycle walking", Black & Rogaway 2002).
    """
    half = max(1, ((int(n) - 1).bit_length() + 1) // 2)  # bits of each half of a number
    keys = _round_keys(seed, epoch)
    out = np.asarray(positions, dtype=np.uint64).copy()
    if out.size and out.max() >= n:  # such a one might never land inside
        raise ValueError(f"positions must lie in 0..{n - 1}")
    flat = out.reshape(-1)
    outside = np.arange(flat.size)  # at the start they all go through
    while len(outside) > _FEW:
        flat[outside] = _permuted(flat[outside], half, keys)
        outside = outside[flat[outside] >= n]
    for i in outside.tolist():
        number = _permuted(int(flat[i]), half, keys)
        while number >= n:
            number = _permuted(number, half, keys)
        flat[i] = number
    return out.astype(np.int64)


def _permuted(x: _Numbers, half: int, keys: Sequence[int]) -> _Numbers:
    """One pass through the Feistel network: uint64 array or int -> a permutation of the numbers of 2 * half bits."""
    low = (1 << half) - 1
    left, right = x >> half, x & low
    for key in keys:
        left, right = right, left ^ (_mixed(right, key) & low)
    return left << half | right


@functools.lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    """Four random 64-bit keys, one for each round of the shuffle."""
    seed, words = int(seed), (0, 1)
    a, b, c, d = philox4x32(words, int(epoch), 0, _SHUFFLE, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    high, low = np.concatenate([a, b]).astype(np.uint64), np.concatenate([c, d]).astype(np.uint64)
    return tuple((high << np.uint64(32) | low).tolist())


def _mixed(x: _Numbers, key: int) -> _Numbers:
    """A hash of x under a key: the finaliser of SplitMix64 (Steele, Lea & Flood 2014), modulo 2**64."""
    x = ((x ^ key) + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)
