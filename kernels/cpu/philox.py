"""Philox4x32-10 inside compiled loops; the same bits as `kernels.philox`, where the source is named."""

import numpy as np

from kernels.cpu.compile import jit

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_32 = np.uint64(32)


@jit
def philox4x32(first, step, c2, c3, k0, k1, words):
    """words (4, n) = four random words, each in its row, for n counters: ten rounds with the key (k0, k1) on each.

    Counter i is (first[0] + i * step[0], first[1] + i * step[1], c2, c3); all are uint32.
    """
    # The rounds are written here, not in a function of one counter: that would not become vector code.
    row0, row1, row2, row3 = words[0], words[1], words[2], words[3]
    for i in range(row0.size):
        x0, x1 = np.uint32(first[0] + np.uint32(i) * step[0]), np.uint32(first[1] + np.uint32(i) * step[1])
        x2, x3, key0, key1 = c2, c3, k0, k1
        for _ in range(10):
            p0, p1 = _M0 * np.uint64(x0), _M1 * np.uint64(x2)  # 32 x 32 -> 64 bits
            x0, x1, x2, x3 = (
                np.uint32(p1 >> _32) ^ x1 ^ key0,
                np.uint32(p1),
                np.uint32(p0 >> _32) ^ x3 ^ key1,
                np.uint32(p0),
            )
            key0, key1 = np.uint32(key0 + _W0), np.uint32(key1 + _W1)
        row0[i], row1[i], row2[i], row3[i] = x0, x1, x2, x3
