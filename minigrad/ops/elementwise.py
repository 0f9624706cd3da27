"""Operations on one element at a time, broadcasting as NumPy does."""

import math
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from kernels.arrays import accurate_sum, is_array
from minigrad import dtypes
from minigrad._tensor import Tensor, as_tensor, constant, record
from minigrad.argument_types import Array, Bounds, Shape, TensorLike
from minigrad.keywords import numpy_keywords
from minigrad.ops.small_arrays import constants, kept_where, may_hold_nan, zeroed_where

_NUMBER_OR_NONE = {int, float, bool, type(None)}  # not NumPy's float64, which would widen float32


def unbroadcast(grad: Array, shape: Shape) -> Array:
    """Sum `grad` over the axes along which an input of `shape` was broadcast."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 and grad.shape[i + added] != 1)
    return accurate_sum(grad, tuple(range(added)) + stretched).reshape(shape)


def _operands(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    """Two Tensors of one dtype: `promoted`, with a short way for the frequent cases."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.data.dtype == b.data.dtype:
                return a, b
        elif type(b) is np.ndarray:
            if a.data.dtype == b.dtype:
                return a, Tensor(b)
        elif isinstance(b, (int, float)) and a.data.dtype.kind == "f":
            return a, constant(b, a.data)
    elif isinstance(b, Tensor) and isinstance(a, (int, float)) and b.data.dtype.kind == "f":
        return constant(a, b.data), b
    first, second = promoted(a, b)
    return first, second


def promoted(*values: TensorLike) -> list[Tensor]:
    """Tensors of the common dtype: the rule of `minigrad.dtypes`."""
    dtype = dtypes.result_type(*values)
    like = next((v.data if isinstance(v, Tensor) else v for v in values if isinstance(v, Tensor) or is_array(v)), None)
    return [astype(as_tensor(value, dtype, like), dtype) for value in values]


def floating(x: TensorLike) -> Tensor:
    """x as a Tensor of floats: what functions of real numbers compute with. Integers and booleans become float32."""
    if not isinstance(x, Tensor):
        x = as_tensor(x)
    return x if x.data.dtype.kind == "f" else astype(x, np.float32)


def _if_wanted(array: Array, other: Tensor) -> Array | None:
    """`array`, if the gradient of the Tensor `other` needs it: what is not needed is not kept alive."""
    return array if other._requires_grad else None


def astype(x: TensorLike, dtype: npt.DTypeLike) -> Tensor:
    """Convert to another dtype. Integers and booleans have no gradient."""
    if dtype is None:
        raise TypeError("astype needs a dtype; None, which is float64 in NumPy, is the tensor's own dtype in PyTorch")
    x, dtype = as_tensor(x), np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if dtype.kind != "f":
        return Tensor(x.data.astype(dtype))
    return record(x.data.astype(dtype), (x,), astype_backward, dtype=x.dtype)


def astype_backward(dout: Array, dtype: np.dtype) -> Array:
    return dout.astype(dtype)


def clone(input: TensorLike) -> Tensor:
    """A copy, through which gradients flow."""
    input = as_tensor(input)
    return record(input.data.copy(), (input,), astype_backward, dtype=input.dtype)


def add(input: TensorLike, other: TensorLike, *, alpha: float = 1) -> Tensor:
    """input + alpha * other."""
    if alpha != 1:
        return add(input, _scaled(other, alpha))
    a, b = input, other = _operands(input, other)
    return record(a.data + b.data, (a, b), add_backward, a_shape=a.data.shape, b_shape=b.data.shape)


def add_backward(dout: Array, a_shape: Shape, b_shape: Shape) -> tuple[Array, Array]:
    return unbroadcast(dout, a_shape), unbroadcast(dout, b_shape)


def sub(input: TensorLike, other: TensorLike, *, alpha: float = 1) -> Tensor:
    """input - alpha * other."""
    if alpha != 1:
        return sub(input, _scaled(other, alpha))
    a, b = input, other = _operands(input, other)
    try:
        out = a.data - b.data
    except TypeError:
        raise TypeError("sub: booleans cannot be subtracted; say x ^ y for where they differ, or x.long()") from None
    return record(out, (a, b), sub_backward, a_shape=a.data.shape, b_shape=b.data.shape)


def sub_backward(dout: Array, a_shape: Shape, b_shape: Shape) -> tuple[Array, Array]:
    return unbroadcast(dout, a_shape), unbroadcast(-dout, b_shape)


def _scaled(b: TensorLike, alpha: float) -> Tensor:
    """alpha * b, for `add` and `sub`."""
    b = as_tensor(b)
    if b.dtype.kind != "f" and isinstance(alpha, (float, np.floating)):
        raise TypeError(f"alpha is {alpha}; beside {b.dtype} it must be an integer")
    return mul(b, alpha)


def mul(input: TensorLike, other: TensorLike) -> Tensor:
    """input * other."""
    a, b = input, other = _operands(input, other)
    return record(
        a.data * b.data, (a, b), mul_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, a), a_shape=a.data.shape, b_shape=b.data.shape,
    )  # fmt: skip


def mul_backward(
    dout: Array, a: Array | None, b: Array | None, a_shape: Shape, b_shape: Shape
) -> tuple[Array | None, Array | None]:
    da = None if b is None else unbroadcast(dout * b, a_shape)
    db = None if a is None else unbroadcast(dout * a, b_shape)
    return da, db


def div(input: TensorLike, other: TensorLike, *, rounding_mode: str | None = None) -> Tensor:
    """input / other. rounding_mode: "floor" or "trunc", towards 0, for whole quotients; those of integers are such."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return trunc_divide(input, other)
    if rounding_mode is not None:
        raise ValueError(f'div: rounding_mode is {rounding_mode!r}; expected None, "floor" or "trunc"')
    a, b = input, other = _floating_operands(input, other)
    return record(a.data / b.data, (a, b), div_backward, a=_if_wanted(a.data, b), b=b.data, a_shape=a.data.shape)


def _floating_operands(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    a, b = _operands(a, b)
    return floating(a), floating(b)


def div_backward(dout: Array, a: Array | None, b: Array, a_shape: Shape) -> tuple[Array, Array | None]:
    da = unbroadcast(dout / b, a_shape)
    db = None if a is None else unbroadcast(-dout * (a / b) / b, b.shape)  # b * b might overflow
    return da, db


def pow(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent. The gradient of the exponent needs input > 0."""
    a, b = input, exponent = _operands(input, exponent)
    out = a.data**b.data
    return record(out, (a, b), pow_backward, a=a.data, b=b.data, out=_if_wanted(out, b))


def pow_backward(dout: Array, a: Array, b: Array, out: Array | None) -> tuple[Array, Array | None]:
    # b = 0 must give 0 even where a = 0, and 0 * 0 ** -1 would be NaN
    is_zero = b == 0
    da = unbroadcast(np.where(is_zero, 0, dout * (b * a ** np.where(is_zero, 1, b - 1))), a.shape)
    # a = 0: out does not change with b >= 0, and 0 * log 0 would be NaN
    db = None if out is None else unbroadcast(dout * out * np.log(np.where((a == 0) & (b >= 0), 1, a)), b.shape)
    return da, db


def neg(input: TensorLike) -> Tensor:
    """-input."""
    input = as_tensor(input)
    try:
        out = -input.data
    except TypeError:
        raise TypeError("neg: booleans have no sign; say ~x for the opposite, or x.long()") from None
    return record(out, (input,), neg_backward)


def neg_backward(dout: Array) -> Array:
    return -dout


def exp(input: TensorLike) -> Tensor:
    """e ** input."""
    input = floating(input)
    out = np.exp(input.data)
    return record(out, (input,), exp_backward, out=out)


def exp_backward(dout: Array, out: Array) -> Array:
    return dout * out


def log(input: TensorLike) -> Tensor:
    """Natural logarithm."""
    input = floating(input)
    return record(np.log(input.data), (input,), log_backward, x=input.data)


def log_backward(dout: Array, x: Array) -> Array:
    return dout / x


def sqrt(input: TensorLike) -> Tensor:
    """Square root."""
    input = floating(input)
    out = np.sqrt(input.data)
    return record(out, (input,), sqrt_backward, out=out)


def sqrt_backward(dout: Array, out: Array) -> Array:
    return dout * 0.5 / out


def rsqrt(input: TensorLike) -> Tensor:
    """1 / sqrt(input)."""
    input = floating(input)
    out = 1.0 / np.sqrt(input.data)
    return record(out, (input,), rsqrt_backward, x=input.data, out=out)


def rsqrt_backward(dout: Array, x: Array, out: Array) -> Array:
    return dout * (-0.5 * out / np.abs(x))  # out ** 3 might underflow on the way; abs: 1 / -0.0 has another sign


def square(input: TensorLike) -> Tensor:
    """input * input; of booleans an integer."""
    input = as_tensor(input)
    input = astype(input, np.int64) if input.dtype.kind == "b" else input
    return mul(input, input)


def reciprocal(input: TensorLike) -> Tensor:
    """1 / input."""
    return div(1.0, input)


def abs(input: TensorLike) -> Tensor:
    """|input|; the gradient at 0 is 0."""
    input = as_tensor(input)
    return record(np.abs(input.data), (input,), abs_backward, x=input.data)


def abs_backward(dout: Array, x: Array) -> Array:
    dx = dout * np.sign(x)
    return np.where(x == x, dx, 0 * dout) if may_hold_nan(x) else dx  # at NaN 0, as in PyTorch


def maximum(input: TensorLike, other: TensorLike) -> Tensor:
    """The larger of the two; where they are equal each gets half of the gradient."""
    a, b = input, other = _operands(input, other)
    return record(np.maximum(a.data, b.data), (a, b), maximum_backward, a=a.data, b=b.data)


def maximum_backward(dout: Array, a: Array, b: Array) -> tuple[Array, Array]:
    return _shared(dout, a, b, a < b, b < a)


def minimum(input: TensorLike, other: TensorLike) -> Tensor:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    a, b = input, other = _operands(input, other)
    return record(np.minimum(a.data, b.data), (a, b), minimum_backward, a=a.data, b=b.data)


def minimum_backward(dout: Array, a: Array, b: Array) -> tuple[Array, Array]:
    return _shared(dout, a, b, b < a, a < b)


def _shared(dout: Array, a: Array, b: Array, a_lost: Array, b_lost: Array) -> tuple[Array, Array]:
    """The gradients of a and b. Where one is NaN neither has lost, and both get the whole gradient, as in PyTorch."""
    dout, zero = np.where(a == b, 0.5 * dout, dout), constants(dout).zero
    da, db = zeroed_where(a_lost, dout, zero), zeroed_where(b_lost, dout, zero)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


@overload
def where(condition: TensorLike) -> tuple[Tensor, ...]: ...
@overload
def where(condition: TensorLike, input: TensorLike, other: TensorLike) -> Tensor: ...
def where(condition: TensorLike, input: Any = None, other: Any = None) -> Tensor | tuple[Tensor, ...]:
    """input where condition holds, else other. condition: booleans, no gradient.

    where(condition) alone gives the places where it holds: for each axis a tensor of indices.
    """
    if input is None or other is None:
        if input is not other:
            raise TypeError(
                "where: give input and other, not None; where(condition) alone gives the places where it holds"
            )
        return tuple(map(Tensor, as_tensor(condition).data.nonzero()))
    a, b = input, other = _operands(input, other)
    # a copy: the caller may write into its array before backward
    condition = np.array(condition.data if isinstance(condition, Tensor) else condition, dtype=bool, like=a.data)
    out = np.where(condition, a.data, b.data)
    return record(out, (a, b), where_backward, condition=condition, a_shape=a.data.shape, b_shape=b.data.shape)


def where_backward(dout: Array, condition: Array, a_shape: Shape, b_shape: Shape) -> tuple[Array, Array]:
    zero = constants(dout).zero
    da, db = np.where(condition, dout, zero), np.where(condition, zero, dout)
    return unbroadcast(da, a_shape), unbroadcast(db, b_shape)


@numpy_keywords(a_min="min", a_max="max")
def clip(
    input: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None, **numpy: Unpack[Bounds]
) -> Tensor:
    """input limited to [min, max], either of which may be None or an array; `max`, where it is the smaller one.

    The gradient goes to the input inside of the bounds and on them, outside to the bound that is the result.
    """
    if min is None and max is None:
        raise ValueError("clip needs min or max")
    if (
        type(min) in _NUMBER_OR_NONE
        and type(max) in _NUMBER_OR_NONE
        and isinstance(input, Tensor)
        and input.data.dtype.kind == "f"
    ):  # the frequent case
        x = input.data
        out = x if min is None else np.maximum(x, min)
        out = out if max is None else np.minimum(out, max)
        return record(out, (input,), clip_backward, x=x, low=min, high=max)
    input, *bounds = promoted(input, *(bound for bound in (min, max) if bound is not None))
    least, greatest = _limits(input)
    low, high = min, max = least if min is None else bounds[0], greatest if max is None else bounds[-1]
    out = np.minimum(np.maximum(input.data, low.data), high.data)
    return record(out, (input, low, high), clip_backward, x=input.data, low=low.data, high=high.data)


def clip_backward(
    dout: Array, x: Array, low: Array | float | None, high: Array | float | None
) -> Array | tuple[Array, ...]:
    """low, high: arrays, which have gradients too, or numbers or None, which have none."""
    if low is None:
        return kept_where(x <= high, dout)
    if high is None:
        return kept_where(x >= low, dout)
    dx = kept_where((x >= low) & (x <= high), dout)
    if not (is_array(low) and is_array(high)):
        return dx
    dlow = unbroadcast(kept_where((x < low) & (low < high), dout), low.shape)
    dhigh = unbroadcast(kept_where((x > high) | (low > high), dout), high.shape)
    return unbroadcast(dx, x.shape), dlow, dhigh


def _limits(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest number of x's dtype."""
    least: float
    greatest: float
    if x.dtype.kind == "f":
        least, greatest = -math.inf, math.inf
    elif x.dtype.kind == "b":
        least, greatest = False, True
    else:
        least, greatest = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    return constant(least, x.data), constant(greatest, x.data)


from minigrad.ops.rounding import floor_divide, trunc_divide  # at the end: these need the functions above
