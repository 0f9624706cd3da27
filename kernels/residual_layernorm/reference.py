"""Residual sum and layer normalisation in plain array code: the reference for the fast kernels."""

from kernels.layernorm.reference import layernorm_backward, layernorm_forward


def residual_layernorm_forward(x, residual, weight, bias, eps):
    """layernorm of a residual sum. x, residual (..., C), weight (C,), bias (C,) or None.

    -> total (..., C) = x + residual, out (..., C) = layernorm(total), mean (...), rstd (...).
    """
    total = x + residual
    return total, *layernorm_forward(total, weight, bias, eps)


def residual_layernorm_backward(dout, dtotal, total, weight, mean, rstd):
    """-> dx (..., C), dweight (C,), dbias (C,). dx is the gradient of x and of residual alike.

    dtotal: the gradient that reaches `total` beside the one through `out`; None if there is none.
    """
    dx, dweight, dbias = layernorm_backward(dout, total, weight, mean, rstd)
    return (dx if dtotal is None else dx + dtotal), dweight, dbias
