"""Exponentials, logarithms and trigonometry beyond `exp` and `log`, one element at a time."""

import math

import numpy as np

from minigrad._tensor import Tensor, record
from minigrad.argument_types import Array, TensorLike
from minigrad.ops.elementwise import floating


def exp2(input: TensorLike) -> Tensor:
    """2 ** input."""
    input = floating(input)
    return record(np.exp2(input.data), (input,), exp2_backward, x=input.data)


def exp2_backward(dout: Array, x: Array) -> Array:
    return dout * (np.exp2(x - 1.0) * (2.0 * math.log(2.0)))  # 2 ** x * log(2), where 2 ** x alone might overflow


def expm1(input: TensorLike) -> Tensor:
    """e ** input - 1, exact also where the input is near 0."""
    input = floating(input)
    return record(np.expm1(input.data), (input,), expm1_backward, x=input.data)


def expm1_backward(dout: Array, x: Array) -> Array:
    return dout * np.exp(x)  # out + 1 would have lost the digits of a small exp(x)


def log2(input: TensorLike) -> Tensor:
    """Logarithm to the base 2."""
    input = floating(input)
    return record(np.log2(input.data), (input,), log2_backward, x=input.data)


def log2_backward(dout: Array, x: Array) -> Array:
    return dout / math.log(2.0) / x  # x * log(2) might be subnormal, which has fewer digits


def log10(input: TensorLike) -> Tensor:
    """Logarithm to the base 10."""
    input = floating(input)
    return record(np.log10(input.data), (input,), log10_backward, x=input.data)


def log10_backward(dout: Array, x: Array) -> Array:
    return dout / math.log(10.0) / x


def log1p(input: TensorLike) -> Tensor:
    """log(1 + input), exact also where the input is near 0."""
    input = floating(input)
    return record(np.log1p(input.data), (input,), log1p_backward, x=input.data)


def log1p_backward(dout: Array, x: Array) -> Array:
    return dout / (1.0 + x)


def sin(input: TensorLike) -> Tensor:
    """Sine of the input in radians."""
    input = floating(input)
    return record(np.sin(input.data), (input,), sin_backward, x=input.data)


def sin_backward(dout: Array, x: Array) -> Array:
    return dout * np.cos(x)


def cos(input: TensorLike) -> Tensor:
    """Cosine of the input in radians."""
    input = floating(input)
    return record(np.cos(input.data), (input,), cos_backward, x=input.data)


def cos_backward(dout: Array, x: Array) -> Array:
    return dout * -np.sin(x)
