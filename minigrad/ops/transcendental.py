"""Exponentials, logarithms and trigonometry beyond `exp` and `log`, one element at a time."""

import math

import numpy as np

from minigrad._tensor import Tensor, record
from minigrad.argument_types import TensorLike
from minigrad.ops.elementwise import floating


def exp2(x: TensorLike) -> Tensor:
    """2 ** x."""
    x = floating(x)
    return record(np.exp2(x.data), (x,), exp2_backward, x=x.data)


def exp2_backward(dout, x):
    return dout * (np.exp2(x - 1.0) * (2.0 * math.log(2.0)))  # 2 ** x * log(2), where 2 ** x alone might overflow


def expm1(x: TensorLike) -> Tensor:
    """e ** x - 1, exact also where x is near 0."""
    x = floating(x)
    return record(np.expm1(x.data), (x,), expm1_backward, x=x.data)


def expm1_backward(dout, x):
    return dout * np.exp(x)  # out + 1 would have lost the digits of a small exp(x)


def log2(x: TensorLike) -> Tensor:
    """Logarithm to the base 2."""
    x = floating(x)
    return record(np.log2(x.data), (x,), log2_backward, x=x.data)


def log2_backward(dout, x):
    return dout / math.log(2.0) / x  # x * log(2) might be subnormal, which has fewer digits


def log10(x: TensorLike) -> Tensor:
    """Logarithm to the base 10."""
    x = floating(x)
    return record(np.log10(x.data), (x,), log10_backward, x=x.data)


def log10_backward(dout, x):
    return dout / math.log(10.0) / x


def log1p(x: TensorLike) -> Tensor:
    """log(1 + x), exact also where x is near 0."""
    x = floating(x)
    return record(np.log1p(x.data), (x,), log1p_backward, x=x.data)


def log1p_backward(dout, x):
    return dout / (1.0 + x)


def sin(x: TensorLike) -> Tensor:
    """Sine of x in radians."""
    x = floating(x)
    return record(np.sin(x.data), (x,), sin_backward, x=x.data)


def sin_backward(dout, x):
    return dout * np.cos(x)


def cos(x: TensorLike) -> Tensor:
    """Cosine of x in radians."""
    x = floating(x)
    return record(np.cos(x.data), (x,), cos_backward, x=x.data)


def cos_backward(dout, x):
    return dout * -np.sin(x)
