"""Comparisons and logic. Results hold booleans (bitwise ones integers too) and have no gradient."""

import numpy as np

from kernels.arrays import is_array
from minigrad._tensor import Tensor, as_tensor
from minigrad.ambiguous import refuse
from minigrad.argument_types import Array, TensorLike
from minigrad.ops.elementwise import _operands, floating


def _applied(ufunc: np.ufunc, x: Array, *others: Array | float) -> Tensor:
    return Tensor(np.asarray(ufunc(x, *others), like=x))


def _compared(ufunc: np.ufunc, a: TensorLike, b: TensorLike) -> Tensor:
    # Python's scalars as they are: NumPy compares 300 or 0.5 with any integer by value; its own scalars would widen
    if isinstance(b, np.generic):
        b = b.item()
    if isinstance(b, (int, float)) and (isinstance(a, Tensor) or is_array(a)):
        return _applied(ufunc, as_tensor(a).data, b)
    a, b = _operands(a, b)
    return _applied(ufunc, a.data, b.data)


def eq(input: TensorLike, other: TensorLike) -> Tensor:
    """input == other, element by element."""
    return _compared(np.equal, input, other)


def ne(input: TensorLike, other: TensorLike) -> Tensor:
    """input != other, element by element."""
    return _compared(np.not_equal, input, other)


def lt(input: TensorLike, other: TensorLike) -> Tensor:
    """input < other, element by element."""
    return _compared(np.less, input, other)


def le(input: TensorLike, other: TensorLike) -> Tensor:
    """input <= other, element by element."""
    return _compared(np.less_equal, input, other)


def gt(input: TensorLike, other: TensorLike) -> Tensor:
    """input > other, element by element."""
    return _compared(np.greater, input, other)


def ge(input: TensorLike, other: TensorLike) -> Tensor:
    """input >= other, element by element."""
    return _compared(np.greater_equal, input, other)


def isclose(
    input: TensorLike, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol * |other|; equal infinities are close, NaNs where `equal_nan` says so."""
    a, b = (floating(x).data for x in _operands(input, other))
    with np.errstate(invalid="ignore"):  # inf - inf, where a == b decides
        close = (a == b) | ((np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b))
    return Tensor(np.asarray(close | ((a != a) & (b != b)) if equal_nan else close, like=a))


def allclose(
    input: TensorLike, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close, as in `isclose`: a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


def array_equal(a: TensorLike, b: TensorLike, equal_nan: bool = False) -> bool:
    """Whether shapes and all elements are the same: a Python bool. equal_nan: NaN is the same as NaN."""
    a, b = as_tensor(a), as_tensor(b)
    if a.shape != b.shape:
        return False
    same = eq(a, b).data
    return bool((same | ((a.data != a.data) & (b.data != b.data)) if equal_nan else same).all())


def equal(input: TensorLike, other: TensorLike) -> bool:  # with NoReturn, type checkers skip the lines after a call
    """Refused with TypeError: NumPy's `equal` is `eq`, PyTorch's is `array_equal` and the method `x.equal(y)`."""
    refuse("equal")


def isnan(input: TensorLike) -> Tensor:
    """Where the input is NaN."""
    return _applied(np.isnan, as_tensor(input).data)


def isinf(input: TensorLike) -> Tensor:
    """Where the input is infinite, of either sign."""
    return _applied(np.isinf, as_tensor(input).data)


def isfinite(input: TensorLike) -> Tensor:
    """Where the input is neither infinite nor NaN."""
    return _applied(np.isfinite, as_tensor(input).data)


def logical_and(input: TensorLike, other: TensorLike) -> Tensor:
    """Where both are true, that is, not 0."""
    return _compared(np.logical_and, input, other)


def logical_or(input: TensorLike, other: TensorLike) -> Tensor:
    """Where either is true, that is, not 0."""
    return _compared(np.logical_or, input, other)


def logical_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """Where exactly one is true, that is, not 0."""
    return _compared(np.logical_xor, input, other)


def logical_not(input: TensorLike) -> Tensor:
    """Where the input is 0 or False."""
    return _applied(np.logical_not, as_tensor(input).data)


def bitwise_and(input: TensorLike, other: TensorLike) -> Tensor:
    """input & other, of integers or booleans."""
    return _bitwise(np.bitwise_and, *_operands(input, other))


def bitwise_or(input: TensorLike, other: TensorLike) -> Tensor:
    """input | other, of integers or booleans."""
    return _bitwise(np.bitwise_or, *_operands(input, other))


def bitwise_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """input ^ other, of integers or booleans; of booleans, where exactly one is true."""
    return _bitwise(np.bitwise_xor, *_operands(input, other))


def bitwise_not(input: TensorLike) -> Tensor:
    """~input: the opposite of booleans, all bits of integers exchanged."""
    return _bitwise(np.invert, as_tensor(input))


def _bitwise(ufunc: np.ufunc, *operands: Tensor) -> Tensor:
    dtype = operands[0].dtype
    if dtype.kind == "f":
        raise TypeError(f"{ufunc.__name__} takes integers or booleans, not {dtype}; a mask is (x != 0)")
    return _applied(ufunc, *(t.data for t in operands))
