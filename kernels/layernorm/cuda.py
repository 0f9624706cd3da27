"""Layer normalisation over the last axis; a block of threads keeps a row in registers from first pass to last."""

from kernels.arrays import Array
from kernels.cuda.launch import accum_dtype, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, column_sums, count_rows, row_kernel, rows_per_block, vec

SOURCE = "layernorm/layernorm.cu"

BLOCK_ROWS = 16  # rows that a block normalises with one load of weight and bias


def layernorm_forward(x: Array, weight: Array, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """x (..., C), weight (C,), bias (C,) or None -> out (..., C), mean (...), rstd (...), both in the dtype of sums."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("layernorm_forward", weight=(weight, (C,)), bias=(bias, (C,)))
    out = empty(x, x.shape)
    mean, rstd = (empty(x, x.shape[:-1], accum_dtype(x.dtype)) for _ in range(2))
    kernel, n_threads = row_kernel(SOURCE, "layernorm_forward", C, vec(x.dtype))
    kernel.launch(
        blocks(N, BLOCK_ROWS), n_threads, out, mean, rstd, contiguous(x), weight, bias, eps, N, C, BLOCK_ROWS,
        dtype=x.dtype,
    )  # fmt: skip
    return out, mean, rstd


def layernorm_backward(
    dout: Array, x: Array, weight: Array, mean: Array, rstd: Array, dresidual: Array | None = None
) -> tuple[Array, Array, Array]:
    """-> dx (..., C), to which dresidual (..., C) is added where it is given, dweight (C,), dbias (C,)."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("layernorm_backward", dout=(dout, x.shape), weight=(weight, (C,)), mean=(mean, x.shape[:-1]),
                 rstd=(rstd, x.shape[:-1]), dresidual=(dresidual, x.shape))  # fmt: skip
    rows = rows_per_block(N)
    dx, partials = empty(x, x.shape), empty(x, (2, blocks(N, rows), C), accum_dtype(x.dtype))
    kernel, n_threads = row_kernel(SOURCE, "layernorm_backward", C, vec(x.dtype))
    kernel.launch(
        blocks(N, rows), n_threads, dx, partials, contiguous(dout), contiguous(x), weight, mean, rstd,
        None if dresidual is None else contiguous(dresidual), N, C, rows, dtype=x.dtype,
    )  # fmt: skip
    dweight, dbias = column_sums(partials, x)
    return dx, dweight, dbias
