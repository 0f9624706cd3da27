"""The addition of a bias and the GELU behind it in one pass; their sum is never stored."""

from kernels.cuda.launch import Kernel, accum_dtype, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, column_sums, count_rows, rows_per_block, threads, vec

_forward = Kernel("gelu/gelu.cu", "bias_gelu_forward")
_backward = Kernel("gelu/gelu.cu", "bias_gelu_backward")
_ROWS = 32  # of which a thread takes its columns, with one load of the bias


def bias_gelu_forward(x, bias, approximate):
    """x (..., C), bias (C,), approximate "none" or "tanh" -> gelu(x + bias), shaped like x."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("bias_gelu_forward", bias=(bias, (C,)))
    out, (columns, n_threads) = empty(x, x.shape), _columns(C, x.dtype)
    _forward.launch(
        (blocks(N, _ROWS), columns), n_threads, out, contiguous(x), bias, N, C, _ROWS, int(approximate == "tanh"),
        dtype=x.dtype,
    )  # fmt: skip
    return out


def bias_gelu_backward(dout, x, bias, approximate):
    """-> dx, shaped like x, dbias (C,)."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("bias_gelu_backward", dout=(dout, x.shape), bias=(bias, (C,)))
    rows, (columns, n_threads) = rows_per_block(N), _columns(C, x.dtype)
    dx, partials = empty(x, x.shape), empty(x, (1, blocks(N, rows), C), accum_dtype(x.dtype))
    _backward.launch(
        (blocks(N, rows), columns), n_threads, dx, partials, contiguous(dout), contiguous(x), bias, N, C, rows,
        int(approximate == "tanh"), dtype=x.dtype,
    )  # fmt: skip
    return dx, *column_sums(partials, x)


def _columns(C, dtype):
    """How many blocks lie side by side over C columns, and the threads of each."""
    groups = blocks(C, vec(dtype))
    n_threads = threads(groups, 256)
    return blocks(groups, n_threads), n_threads
