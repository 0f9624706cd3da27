"""The residual sum and the layer normalisation behind it in one pass: the sum is written once and not read again."""

from kernels.cuda.launch import accum_dtype, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, column_sums, count_rows, rows_per_block, vec
from kernels.layernorm.cuda import ROWS, variant


def residual_layernorm_forward(x, residual, weight, bias, eps):
    """x, residual (..., C), weight (C,), bias (C,) or None -> total, out (..., C), mean, rstd (...)."""
    C, N = x.shape[-1], count_rows(x)
    check_shapes("residual_layernorm_forward", residual=(residual, x.shape), weight=(weight, (C,)), bias=(bias, (C,)))
    total, out = empty(x, x.shape), empty(x, x.shape)
    mean, rstd = (empty(x, x.shape[:-1], accum_dtype(x.dtype)) for _ in range(2))
    kernel, n_threads = variant("residual_layernorm_forward", C, vec(x.dtype))
    kernel.launch(
        blocks(N, ROWS), n_threads, total, out, mean, rstd, contiguous(x), contiguous(residual), weight, bias, eps,
        N, C, ROWS, dtype=x.dtype,
    )  # fmt: skip
    return total, out, mean, rstd


def residual_layernorm_backward(dout, dtotal, total, weight, mean, rstd):
    """-> dx (..., C), the gradient of x and of residual alike, dweight (C,), dbias (C,). dtotal may be None."""
    C, N = total.shape[-1], count_rows(total)
    check_shapes("residual_layernorm_backward", dout=(dout, total.shape), dtotal=(dtotal, total.shape),
                 weight=(weight, (C,)), mean=(mean, total.shape[:-1]), rstd=(rstd, total.shape[:-1]))  # fmt: skip
    rows = rows_per_block(N)
    dx, partials = empty(total, total.shape), empty(total, (2, blocks(N, rows), C), accum_dtype(total.dtype))
    kernel, n_threads = variant("residual_layernorm_backward", C, vec(total.dtype))
    kernel.launch(
        blocks(N, rows), n_threads, dx, partials, contiguous(dout), None if dtotal is None else contiguous(dtotal),
        contiguous(total), weight, mean, rstd, N, C, rows, dtype=total.dtype,
    )  # fmt: skip
    return dx, *column_sums(partials, total)
