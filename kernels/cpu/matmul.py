"""Matrix products of float32 and float64 numbers, or of float32 numbers rounded to bfloat16: see `kernels.factors`."""

from kernels import factors
from kernels.cpu import gemm, gemm_bfloat16


def multiply(a, b, out, bias=None, add=False):
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,), or added to out. a, b C-contiguous, or transposed views of such."""
    if b.shape[0] == 0:
        if not add:
            out[:] = 0 if bias is None else bias
        return out
    return (gemm_bfloat16 if factors.rounds(out.dtype) else gemm).multiply(a, b, out, bias, add)
