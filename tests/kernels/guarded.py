"""Arrays behind which no byte may be read, and the CPU kernels on them: test_out_of_bounds.py runs this file.

python tests/kernels/guarded.py float32 | bfloat16 | past-the-end
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np
from parity import assert_same_bits

from kernels import matmul_precision
from kernels.attention.cpu import attention_backward, attention_forward
from kernels.cpu.matmul import multiply
from kernels.dropout.cpu import dropout_forward
from kernels.softmax_cross_entropy.cpu import softmax_cross_entropy_forward

PROT_NONE = 0
SHAPES = [(1, 1, 1), (14, 16, 32), (15, 17, 33), (28, 400, 64), (31, 47, 31), (129, 20, 7), (48, 16, 48), (5, 800, 70)]
HEADS = [(1, 1), (16, 16), (17, 9), (64, 32), (65, 33), (130, 20)]  # T, D


def guarded(x):
    """A C-contiguous copy of x that ends where a page begins that the system lets nobody read."""
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    copied = np.frombuffer(memory, x.dtype, x.size, size - x.nbytes).reshape(x.shape)
    copied[...] = x
    return copied


def check(function, *arrays):
    """function gives the same bits for arrays like these that are guarded."""
    expected, found = function(*arrays), function(*(guarded(x) for x in arrays))
    for one, other in zip(expected, found, strict=True):
        assert_same_bits(one, other)


def products(rng):
    for dtype, (M, K, N) in itertools.product((np.float32, np.float64), SHAPES):
        for a_turned, b_turned in np.ndindex(2, 2):

            def product(a, b, start, bias, a_turned=a_turned, b_turned=b_turned):
                out = start if start.base is not None else start.copy()  # a guarded one itself
                a, b = a.T if a_turned else a, b.T if b_turned else b
                return multiply(a, b, out, add=True).copy(), multiply(a, b, out, bias)

            shapes = (K, M) if a_turned else (M, K), (N, K) if b_turned else (K, N), (M, N), (N,)
            check(product, *(rng.standard_normal(shape, dtype=dtype) for shape in shapes))


def attention(rng):
    for T, D in HEADS:
        for causal, p in ((True, 0.0), (False, 0.3)):
            settings = D**-0.5, causal, p, 1, 2, 3

            def both(qkv, dqkv, dout, settings=settings):
                q, k, v = qkv.transpose(2, 0, 3, 1, 4)
                out, logsumexp = attention_forward(q, k, v, *settings)
                into = tuple(dqkv.transpose(2, 0, 3, 1, 4))
                return out, *attention_backward(dout, q, k, v, out, logsumexp, *settings, into)

            packed = (rng.standard_normal((1, T, 3, 2, D), dtype=np.float32) for _ in range(2))
            check(both, *packed, rng.standard_normal((1, 2, T, D), dtype=np.float32))


def rows(rng):
    for n in (1, 15, 16, 17, 513, 2049):
        x, targets = rng.standard_normal((3, n), dtype=np.float32), np.zeros(3, np.int64)
        check(lambda x: (dropout_forward(x, 0.4, 1, 2, 3),), x)
        check(lambda x, targets: softmax_cross_entropy_forward(x, targets, -1, "mean")[:2], x, targets)


if __name__ == "__main__":
    if sys.argv[1] == "past-the-end":
        ctypes.string_at(guarded(np.zeros(3)).ctypes.data + 24, 1)
    else:
        matmul_precision.select(sys.argv[1])
        for group in (products, attention, rows):
            group(np.random.default_rng(0))
    print("no crash")
