"""Philox4x32-10 inside compiled loops; the same bits as `kernels.philox`, where the source is named."""

import numpy as np

from kernels.cpu.compile import jit

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_32 = np.uint64(32)


@jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds on four uint32 counter words with a key of two -> four random uint32 words."""
    for _ in range(10):
        p0, p1 = _M0 * np.uint64(c0), _M1 * np.uint64(c2)  # 32 x 32 -> 64 bits
        c0, c1, c2, c3 = (
            np.uint32(p1 >> _32) ^ c1 ^ k0,
            np.uint32(p1),
            np.uint32(p0 >> _32) ^ c3 ^ k1,
            np.uint32(p0),
        )
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
    return c0, c1, c2, c3
