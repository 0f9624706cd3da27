"""Matrix products of float32 and float64 numbers, or of float32 numbers rounded to bfloat16: see `kernels.factors`."""

import numpy as np
from numba import get_num_threads

from kernels import factors
from kernels.cpu import gemm, gemm_bfloat16
from kernels.cpu.compile import jit, launch
from kernels.cpu.pairs import TILES
from kernels.cpu.vectors import lanes


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,), or added to out. a, b C-contiguous, or transposed views of such."""
    bias = np.empty(0, out.dtype) if bias is None else np.ascontiguousarray(bias)
    launch(multiply_factors, nanoseconds(a, b), factor(a), factor(b), bias, add, out, *settings(out.dtype))
    return out


def nanoseconds(a, b):
    """About what the product of a and b takes one thread."""
    return 2 * a.size * b.shape[1] / (gemm_bfloat16 if factors.rounds(a.dtype) else gemm).FLOPS_PER_NANOSECOND


def factor(x):
    """x as compiled code takes it: (a C-contiguous array, whether x is its transpose)."""
    turned = not x.flags.c_contiguous
    return x.T if turned else x, turned


def settings(dtype):
    """The last arguments of `multiply_factors`, for numbers of that dtype."""
    tiles = TILES if factors.rounds(dtype) else None
    return tiles, lanes(dtype), get_num_threads()  # not asked for in compiled code: that could not be cached


@jit
def multiply_factors(a, b, bias, add, out, tiles, lanes, workers):
    """`multiply` for compiled code. a, b: see `factor`. bias: (0,) for none. Then the `settings`."""
    if tiles is None:
        gemm.multiply(a, b, bias, add, out, lanes, workers)
    else:
        gemm_bfloat16.multiply(a, b, bias, add, out, tiles, workers)
