"""Matrix products of float32 and float64 numbers, or of float32 numbers rounded to bfloat16 (`matmul_precision`)."""

import numpy as np
from numba import get_num_threads

from kernels import matmul_precision
from kernels.cpu import gemm, gemm_bfloat16
from kernels.cpu.compile import jit, launch
from kernels.cpu.micro_kernel_bfloat16 import tile_settings
from kernels.cpu.vector_ops import lanes


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,); if add, out + a @ b.

    a, b: C-contiguous, or transposed views of such.
    """
    bias = np.array([] if bias is None else bias, out.dtype)  # one type of array, whatever the caller's may be
    launch(multiply_factors, nanoseconds(a, b), factor(a), factor(b), bias, add, out, *settings(out.dtype))
    return out


def nanoseconds(a, b):
    """About what the product of a and b takes one thread."""
    return 2 * a.size * b.shape[1] / (gemm_bfloat16 if matmul_precision.rounds(a.dtype) else gemm).FLOPS_PER_NANOSECOND


def factor(x):
    """x as compiled code takes it: (a C-contiguous array, whether x is its transpose)."""
    turned = not x.flags.c_contiguous
    return x.T if turned else x, turned


def settings(dtype):
    """The last arguments of `multiply_factors`, for numbers of that dtype.

    The number of threads is among them, since compiled code that asks for it could not be cached.
    """
    return tile_settings() if matmul_precision.rounds(dtype) else None, lanes(dtype), get_num_threads()


@jit
def multiply_factors(a, b, bias, add, out, tiles, lanes, workers):
    """`multiply` for compiled code. a, b: see `factor`. bias: (0,) for none. Then the `settings`."""
    if out.size == 0:
        return
    if a[0].size == 0:  # sums of nothing
        if not add:
            out[:] = 0
            if bias.size:
                out += bias
    elif tiles is None:
        gemm.multiply(a, b, bias, add, out, lanes, workers)
    else:
        gemm_bfloat16.multiply(a, b, bias, add, out, tiles, workers)
