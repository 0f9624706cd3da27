"""Whole numbers from others: floor and its kin, quotients without a remainder and remainders without a quotient."""

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import TensorLike
from minigrad.ops.elementwise import _if_wanted, _operands, div, mul, sign_of, unbroadcast, where


def floor_divide(a: TensorLike, b: TensorLike) -> Tensor:
    """a // b, the quotient rounded down; the gradient is 0. ZeroDivisionError for an integer divided by 0."""
    a, b = _divisible(a, b)
    return _constant(np.floor_divide(a.data, b.data), a, b)


def trunc_divide(a, b):
    a, b = _divisible(a, b)
    if a.dtype.kind == "f":
        return _constant(np.trunc(a.data / b.data), a, b)
    up = (a.data % b.data != 0) & ((a.data < 0) != (b.data < 0))  # rounded down, where a / b < 0 is no whole number
    return Tensor(a.data // b.data + up)


def _divisible(a, b):
    a, b = _operands(a, b)
    if a.dtype.kind == "b":
        raise TypeError("two booleans are divided; convert one to integers, x.long()")
    if a.dtype.kind != "f" and not b.data.all():
        raise ZeroDivisionError("an integer is divided by 0; convert it for inf and NaN, x.float()")
    return a, b


def remainder(a: TensorLike, b: TensorLike) -> Tensor:
    """a % b = a - b * floor(a / b), with the sign of b. ZeroDivisionError for an integer divided by 0."""
    a, b = _divisible(a, b)
    return record(
        np.remainder(a.data, b.data), (a, b), remainder_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, b), a_shape=a.shape,
    )  # fmt: skip


def remainder_backward(dout, a, b, a_shape):
    db = None if b is None else unbroadcast(-dout * np.floor_divide(a, b), b.shape)
    return unbroadcast(dout, a_shape), db


def _constant(out, *tensors):
    """`out` as a function of the tensors that is constant between its steps: each gets the gradient 0."""
    for tensor in tensors:
        out = where(False, tensor, out)
    return out


def _rounded(ufunc, x):
    x = as_tensor(x)
    return _constant(ufunc(x.data), x) if x.dtype.kind == "f" else x


def floor(x: TensorLike) -> Tensor:
    """The largest whole number <= x; the gradient is 0."""
    return _rounded(np.floor, x)


def ceil(x: TensorLike) -> Tensor:
    """The smallest whole number >= x; the gradient is 0."""
    return _rounded(np.ceil, x)


def trunc(x: TensorLike) -> Tensor:
    """x rounded towards 0; the gradient is 0."""
    return _rounded(np.trunc, x)


def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """x rounded to `decimals` places, which may be negative, halves to the even neighbour; the gradient is 0."""
    x = as_tensor(x)
    if decimals == 0 or x.dtype.kind != "f":
        return _rounded(np.rint, x) if decimals >= 0 else Tensor(np.round(x.data, decimals))
    tens = 10.0 ** np.abs(decimals).item()
    return div(round(mul(x, tens)), tens) if decimals > 0 else mul(round(div(x, tens)), tens)


def rint(x: TensorLike) -> Tensor:
    """NumPy's name for `round`, to whole numbers alone."""
    return round(x)


def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1, and 0 for NaN as in PyTorch; the gradient is 0."""
    x = as_tensor(x)
    return _constant(sign_of(x.data), x)
