"""Comparisons and logic. Results hold booleans (bitwise ones integers too) and have no gradient."""

from typing import NoReturn

import numpy as np

from kernels.arrays import is_array
from minigrad._tensor import Tensor, as_tensor
from minigrad.ambiguous import refuse
from minigrad.argument_types import TensorLike
from minigrad.ops.elementwise import _operands, floating


def _compared(ufunc, a, b):
    # Python's scalars as they are: NumPy compares 300 or 0.5 with any integer by value
    if isinstance(b, (int, float)) and (isinstance(a, Tensor) or is_array(a)):
        return Tensor(np.asarray(ufunc(as_tensor(a).data, b), like=as_tensor(a).data))
    a, b = _operands(a, b)
    return Tensor(np.asarray(ufunc(a.data, b.data), like=a.data))


def eq(a: TensorLike, b: TensorLike) -> Tensor:
    """a == b, element by element."""
    return _compared(np.equal, a, b)


def ne(a: TensorLike, b: TensorLike) -> Tensor:
    """a != b, element by element."""
    return _compared(np.not_equal, a, b)


def lt(a: TensorLike, b: TensorLike) -> Tensor:
    """a < b, element by element."""
    return _compared(np.less, a, b)


def le(a: TensorLike, b: TensorLike) -> Tensor:
    """a <= b, element by element."""
    return _compared(np.less_equal, a, b)


def gt(a: TensorLike, b: TensorLike) -> Tensor:
    """a > b, element by element."""
    return _compared(np.greater, a, b)


def ge(a: TensorLike, b: TensorLike) -> Tensor:
    """a >= b, element by element."""
    return _compared(np.greater_equal, a, b)


def isclose(a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|a - b| <= atol + rtol * |b|, element by element; equal infinities are close, NaNs where `equal_nan` says so."""
    a, b = (floating(x).data for x in _operands(a, b))
    with np.errstate(invalid="ignore"):  # inf - inf, where a == b decides
        close = (a == b) | ((np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b))
    return Tensor(np.asarray(close | ((a != a) & (b != b)) if equal_nan else close, like=a))


def allclose(a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as in `isclose`: a Python bool."""
    return bool(isclose(a, b, rtol, atol, equal_nan).data.all())


def array_equal(a: TensorLike, b: TensorLike, equal_nan: bool = False) -> bool:
    """Whether shapes and all elements are the same: a Python bool. equal_nan: NaN is the same as NaN."""
    a, b = as_tensor(a), as_tensor(b)
    if a.shape != b.shape:
        return False
    same = eq(a, b).data
    return bool((same | ((a.data != a.data) & (b.data != b.data)) if equal_nan else same).all())


def equal(input: TensorLike, other: TensorLike) -> NoReturn:
    """Refused with TypeError: NumPy's `equal` is `eq`, PyTorch's is `array_equal` and the method `x.equal(y)`."""
    refuse("equal")


def isnan(x: TensorLike) -> Tensor:
    """Where x is NaN."""
    return _tested(np.isnan, x)


def isinf(x: TensorLike) -> Tensor:
    """Where x is infinite, of either sign."""
    return _tested(np.isinf, x)


def isfinite(x: TensorLike) -> Tensor:
    """Where x is neither infinite nor NaN."""
    return _tested(np.isfinite, x)


def _tested(ufunc, x):
    x = as_tensor(x)
    return Tensor(np.asarray(ufunc(x.data), like=x.data))


def logical_and(a: TensorLike, b: TensorLike) -> Tensor:
    """Where both are true, that is, not 0."""
    return _compared(np.logical_and, a, b)


def logical_or(a: TensorLike, b: TensorLike) -> Tensor:
    """Where either is true, that is, not 0."""
    return _compared(np.logical_or, a, b)


def logical_xor(a: TensorLike, b: TensorLike) -> Tensor:
    """Where exactly one is true, that is, not 0."""
    return _compared(np.logical_xor, a, b)


def logical_not(x: TensorLike) -> Tensor:
    """Where x is 0 or False."""
    return _tested(np.logical_not, x)


def bitwise_and(a: TensorLike, b: TensorLike) -> Tensor:
    """a & b, of integers or booleans."""
    return _bitwise(np.bitwise_and, a, b)


def bitwise_or(a: TensorLike, b: TensorLike) -> Tensor:
    """a | b, of integers or booleans."""
    return _bitwise(np.bitwise_or, a, b)


def bitwise_xor(a: TensorLike, b: TensorLike) -> Tensor:
    """a ^ b, of integers or booleans; of booleans, where exactly one is true."""
    return _bitwise(np.bitwise_xor, a, b)


def bitwise_not(x: TensorLike) -> Tensor:
    """~x: the opposite of booleans, all bits of integers exchanged."""
    return _bitwise(np.invert, x)


def _bitwise(ufunc, *values):
    tensors = _operands(*values) if len(values) == 2 else [as_tensor(values[0])]
    if tensors[0].dtype.kind == "f":
        raise TypeError(f"{ufunc.__name__} takes integers or booleans, not {tensors[0].dtype}; a mask is (x != 0)")
    return Tensor(np.asarray(ufunc(*(t.data for t in tensors)), like=tensors[0].data))
