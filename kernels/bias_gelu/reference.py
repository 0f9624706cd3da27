"""Bias and GELU in plain array code: the reference for the fast kernels."""

from kernels.gelu.reference import gelu_backward, gelu_forward


def bias_gelu_forward(x, bias, approximate):
    """gelu(x + bias). x (..., C), bias (C,), approximate "none" (erf) or "tanh" -> (..., C)."""
    return gelu_forward(x + bias, approximate)


def bias_gelu_backward(dout, x, bias, approximate):
    """-> dx (..., C), dbias (C,)."""
    dx = gelu_backward(dout, x + bias, approximate)
    return dx, dx.sum(axis=tuple(range(x.ndim - 1)))
