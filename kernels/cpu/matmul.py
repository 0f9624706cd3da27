"""Matrix products of float32 and float64 numbers, or of float32 numbers rounded to bfloat16 (`matmul_precision`)."""

from typing import Any

import numpy as np

from kernels import matmul_precision
from kernels.arrays import Array
from kernels.cpu import gemm, gemm_bfloat16
from kernels.cpu.compile import jit, launch
from kernels.cpu.micro_kernel_bfloat16 import tile_config
from kernels.cpu.threads import get_num_threads
from kernels.cpu.vector_copies import lanes


def multiply(a: Array, b: Array, out: Array, bias: Array | None = None, add: bool = False) -> Array:
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,); if add, out + a @ b.

    a, b: C-contiguous, or transposed views of such.
    """
    bias = np.array([] if bias is None else bias, out.dtype)  # one type of array, whatever the caller's may be
    launch(multiply_operands, nanoseconds(a, b), operand(a), operand(b), bias, add, out, *settings(out.dtype))
    return out


def nanoseconds(a: Array, b: Array) -> float:
    """About how long one thread takes for the product of a and b."""
    return 2 * a.size * b.shape[1] / (gemm_bfloat16 if matmul_precision.rounds(a.dtype) else gemm).FLOPS_PER_NANOSECOND


def operand(x: Array) -> tuple[Array, bool]:
    """x as compiled code takes it: (a C-contiguous array, whether x is its transpose)."""
    transposed = not x.flags.c_contiguous
    return x.T if transposed else x, transposed


def settings(dtype: np.dtype) -> tuple[Any, int, int]:
    """The last arguments of `multiply_operands`, for numbers of that dtype.

    The number of threads is among them, since compiled code that asks for it could not be cached.
    """
    return tile_config() if matmul_precision.rounds(dtype) else None, lanes(dtype), get_num_threads()


@jit
def multiply_operands(a, b, bias, add, out, config, lanes, workers):
    """`multiply` for compiled code. a, b: of `operand`. bias: (0,) for none. The last three: of `settings`."""
    if out.size == 0:
        return
    if a[0].size == 0:  # empty sums
        if not add:
            out[:] = 0
            if bias.size:
                out += bias
    elif config is None:
        gemm.multiply(a, b, bias, add, out, lanes, workers)
    else:
        gemm_bfloat16.multiply(a, b, bias, add, out, config, workers)
