"""Philox4x32-10, the counter-based random generator, in plain NumPy.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A random number is a
pure function of a 128-bit counter and a 64-bit key, so nothing has to be stored, saved or replayed: the
mask of a dropout layer is a function of (seed, step, stream, index), the same bits on every device.
"""

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # golden ratio and sqrt(3) - 1: added to the key after every round
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox4x32(
    c0: npt.ArrayLike, c1: npt.ArrayLike, c2: npt.ArrayLike, c3: npt.ArrayLike, k0: int, k1: int
) -> tuple[Array, ...]:
    """Ten rounds. Counter words c0..c3: uint32 arrays or ints that broadcast; k0, k1: ints. -> 4 uint32 arrays."""
    w0, w1, w2, w3 = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in (c0, c1, c2, c3)))
    for _ in range(10):
        p0, p1 = w0 * _MULTIPLIERS[0], w2 * _MULTIPLIERS[1]  # 32 x 32 -> 64 bits
        w0, w1, w2, w3 = (p1 >> _32) ^ w1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _32) ^ w3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return tuple(w.astype(np.uint32) for w in (w0, w1, w2, w3))


def derive_key(seed: int, step: int, stream: int) -> tuple[int, int]:
    """The 64-bit key (k0, k1) of one use of randomness: Philox itself, with the seed as its key."""
    seed, step, stream = int(seed), int(step), int(stream)
    k0, k1, _, _ = philox4x32(step & 0xFFFFFFFF, step >> 32, stream & 0xFFFFFFFF, stream >> 32,
                              seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)  # fmt: skip
    return int(k0), int(k1)


def random_bits(n: int, seed: int, step: int, stream: int, start: int = 0) -> Array:
    """`n` uint32 random words: word i is lane i % 4 of the counter i // 4, counted from `start`."""
    first, last = start // 4, (start + n + 3) // 4
    counter = np.arange(first, last, dtype=np.uint64)
    words = philox4x32(counter & _LOW, counter >> _32, 0, 0, *derive_key(seed, step, stream))
    return np.stack(words, axis=-1).reshape(-1)[start - 4 * first :][:n]


def keep_threshold(p: float) -> int:
    """Keep an element when its uint32 word is below this: probability 1 - p. ValueError outside [0, 1)."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout probability is {p}; expected 0 <= p < 1")
    return round((1.0 - p) * 2**32)
