"""Whole numbers from others: rounding, quotients without a remainder, and remainders without a quotient."""

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Shape, TensorLike
from minigrad.ops.checks import whole
from minigrad.ops.elementwise import _if_wanted, _operands, clone, div, mul, unbroadcast, where


def floor_divide(input: TensorLike, other: TensorLike) -> Tensor:
    """input // other, the quotient rounded down; the gradient is 0. ZeroDivisionError for an integer divided by 0."""
    a, b = _divisible(input, other)
    return _constant(np.floor_divide(a.data, b.data), a, b)


def trunc_divide(input: TensorLike, other: TensorLike) -> Tensor:
    """input / other, rounded towards 0, for `div`; the gradient is 0. ZeroDivisionError for an integer divided by 0."""
    a, b = _divisible(input, other)
    if a.dtype.kind == "f":
        return _constant(np.trunc(a.data / b.data), a, b)
    up = (a.data % b.data != 0) & ((a.data < 0) != (b.data < 0))  # rounded down, where a / b < 0 is no whole number
    return Tensor(a.data // b.data + up)


def _divisible(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    a, b = _operands(a, b)
    if a.dtype.kind == "b":
        raise TypeError("two booleans are divided; convert one to integers, x.long()")
    if a.dtype.kind != "f" and not b.data.all():
        raise ZeroDivisionError("an integer is divided by 0; convert it for inf and NaN, x.float()")
    return a, b


def remainder(input: TensorLike, other: TensorLike) -> Tensor:
    """input - other * floor(input / other), with the sign of `other`. ZeroDivisionError for an integer divided by 0."""
    a, b = input, other = _divisible(input, other)
    return record(
        np.remainder(a.data, b.data), (a, b), remainder_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, b), a_shape=a.shape,
    )  # fmt: skip


def remainder_backward(dout: Array, a: Array | None, b: Array | None, a_shape: Shape) -> tuple[Array, Array | None]:
    db = None if a is None or b is None else unbroadcast(-dout * np.floor_divide(a, b), b.shape)
    return unbroadcast(dout, a_shape), db


def _constant(out: Array, *tensors: Tensor) -> Tensor:
    """`out` as a function of the tensors that is constant between its steps: each gets the gradient 0."""
    result = Tensor(out)
    for tensor in tensors:
        result = where(False, tensor, result)
    return result


def _rounded(ufunc: np.ufunc, x: TensorLike) -> Tensor:
    x = as_tensor(x)
    return _constant(ufunc(x.data), x) if x.dtype.kind == "f" else clone(x)


def floor(input: TensorLike) -> Tensor:
    """The largest whole number <= input; the gradient is 0."""
    return _rounded(np.floor, input)


def ceil(input: TensorLike) -> Tensor:
    """The smallest whole number >= input; the gradient is 0."""
    return _rounded(np.ceil, input)


def trunc(input: TensorLike) -> Tensor:
    """The input rounded towards 0; the gradient is 0."""
    return _rounded(np.trunc, input)


def round(input: TensorLike, decimals: int = 0) -> Tensor:
    """The input rounded to `decimals` places, halves to the even neighbour; the gradient is 0. -1 stands for tens."""
    x, decimals = as_tensor(input), whole("round: decimals", decimals)
    if decimals == 0 or x.dtype.kind != "f":
        return _rounded(np.rint, x) if decimals >= 0 else Tensor(np.round(x.data, decimals))
    tens = 10.0 ** abs(decimals)
    return div(round(mul(x, tens)), tens) if decimals > 0 else mul(round(div(x, tens)), tens)


def rint(x: TensorLike) -> Tensor:
    """NumPy's name for `round`, to whole numbers alone."""
    return round(x)


def sign(input: TensorLike) -> Tensor:
    """-1, 0 or 1, and 0 for NaN as in PyTorch; the gradient is 0."""
    x = as_tensor(input)
    if x.dtype.kind != "f":
        return clone(x) if x.dtype.kind == "b" else Tensor(np.sign(x.data))
    return _constant(np.where(x.data != x.data, 0, np.sign(x.data)), x)
