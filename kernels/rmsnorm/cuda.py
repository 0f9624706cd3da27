"""RMSNorm over the last axis; a block of threads keeps a row in registers from first pass to last."""

from kernels.arrays import Array
from kernels.cuda.launch import accum_dtype, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, column_sums, count_rows, row_kernel, rows_per_block, vec

SOURCE = "rmsnorm/rmsnorm.cu"
ROWS = 16  # that a block normalises with one load of weight


def rmsnorm_forward(x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """x (..., C), weight (C,) -> out (..., C), rstd (...) in the dtype of sums."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("rmsnorm_forward", weight=(weight, (C,)))
    out, rstd = empty(x, x.shape), empty(x, x.shape[:-1], accum_dtype(x.dtype))
    kernel, n_threads = row_kernel(SOURCE, "rmsnorm_forward", C, vec(x.dtype))
    kernel.launch(blocks(N, ROWS), n_threads, out, rstd, contiguous(x), weight, eps, N, C, ROWS, dtype=x.dtype)
    return out, rstd


def rmsnorm_backward(dout: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    """-> dx (..., C), dweight (C,)."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("rmsnorm_backward", dout=(dout, x.shape), weight=(weight, (C,)), rstd=(rstd, x.shape[:-1]))
    rows = rows_per_block(N)
    dx, partials = empty(x, x.shape), empty(x, (1, blocks(N, rows), C), accum_dtype(x.dtype))
    kernel, n_threads = row_kernel(SOURCE, "rmsnorm_backward", C, vec(x.dtype))
    kernel.launch(
        blocks(N, rows), n_threads, dx, partials, contiguous(dout), contiguous(x), weight, rstd, N, C, rows,
        dtype=x.dtype,
    )  # fmt: skip
    (dweight,) = column_sums(partials, x)
    return dx, dweight
