"""Which of the matrix products is used: float32's and float64's own, or with factors rounded to bfloat16."""

import numpy as np

from kernels.cpu import gemm, gemm_bfloat16
from kernels.cpu.pairs import HAS_BFLOAT16

_bfloat16 = False


def use_factors(dtype):
    """From now on the factors of float32 products are rounded to dtype, "float32" or "bfloat16"; sums are float32.

    Returns the dtype in use: float32 where the processor has no instruction for bfloat16.
    """
    global _bfloat16
    _bfloat16 = dtype == "bfloat16" and HAS_BFLOAT16
    return "bfloat16" if _bfloat16 else "float32"


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,), or added to out. a, b C-contiguous, or transposed views of such."""
    if b.shape[0] == 0:
        if not add:
            out[:] = 0 if bias is None else bias
        return out
    chosen = gemm_bfloat16 if _bfloat16 and out.dtype == np.float32 else gemm
    return chosen.multiply(a, b, out, bias, add)
