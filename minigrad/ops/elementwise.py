"""Operations on one element at a time, broadcasting as NumPy does."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.arrays import accurate_sum, as_array, is_array
from minigrad import dtypes
from minigrad._tensor import Tensor, as_tensor, constant, record
from minigrad.argument_types import TensorLike
from minigrad.keywords import numpy_keywords


def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an input of `shape` was broadcast."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 and grad.shape[i + added] != 1)
    return accurate_sum(grad, tuple(range(added)) + stretched).reshape(shape)


_SCALARS = {int, float, bool}


def _operands(a, b):
    """Two Tensors of one dtype: `promoted`, with a short way for the frequent cases."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.data.dtype == b.data.dtype:
                return a, b
        elif type(b) in _SCALARS and a.data.dtype.kind == "f":
            return a, constant(b, a.data)
    elif isinstance(b, Tensor) and type(a) in _SCALARS and b.data.dtype.kind == "f":
        return constant(a, b.data), b
    return promoted(a, b)


def promoted(*values):
    """Tensors of the common dtype: the rule of `minigrad.dtypes`."""
    dtype = dtypes.result_type(*values)
    like = next((v.data if isinstance(v, Tensor) else v for v in values if isinstance(v, Tensor) or is_array(v)), None)
    return [astype(as_tensor(value, dtype, like), dtype) for value in values]


def floating(x: TensorLike) -> Tensor:
    """x as a Tensor of floats: what functions of real numbers compute with. Integers and booleans become float32."""
    if not isinstance(x, Tensor):
        x = as_tensor(x)
    return x if x.data.dtype.kind == "f" else astype(x, np.float32)


def _if_wanted(array, other):
    """`array`, if the gradient of the Tensor `other` needs it: what is not needed is not kept alive."""
    return array if other.requires_grad else None


def astype(x: TensorLike, dtype: npt.DTypeLike) -> Tensor:
    """Convert to another dtype. Integers and booleans have no gradient."""
    x, dtype = as_tensor(x), np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if dtype.kind != "f":
        return Tensor(x.data.astype(dtype))
    return record(x.data.astype(dtype), (x,), astype_backward, dtype=x.dtype)


def astype_backward(dout, dtype):
    return dout.astype(dtype)


def clone(x: TensorLike) -> Tensor:
    """A copy, through which gradients flow."""
    x = as_tensor(x)
    return record(x.data.copy(), (x,), astype_backward, dtype=x.dtype)


def add(a: TensorLike, b: TensorLike, *, alpha: float = 1) -> Tensor:
    """a + alpha * b."""
    if alpha != 1:
        return add(a, _scaled(b, alpha))
    a, b = _operands(a, b)
    return record(a.data + b.data, (a, b), add_backward, a_shape=a.shape, b_shape=b.shape)


def add_backward(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(dout, b_shape)


def sub(a: TensorLike, b: TensorLike, *, alpha: float = 1) -> Tensor:
    """a - alpha * b."""
    if alpha != 1:
        return sub(a, _scaled(b, alpha))
    a, b = _operands(a, b)
    return record(a.data - b.data, (a, b), sub_backward, a_shape=a.shape, b_shape=b.shape)


def sub_backward(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(-dout, b_shape)


def _scaled(b, alpha):
    """alpha * b, for `add` and `sub`."""
    b = as_tensor(b)
    if b.dtype.kind != "f" and isinstance(alpha, (float, np.floating)):
        raise TypeError(f"alpha is {alpha}; beside {b.dtype} it must be an integer")
    return mul(b, alpha)


def mul(a: TensorLike, b: TensorLike) -> Tensor:
    """a * b."""
    a, b = _operands(a, b)
    return record(
        a.data * b.data, (a, b), mul_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, a), a_shape=a.shape, b_shape=b.shape,
    )  # fmt: skip


def mul_backward(dout, a, b, a_shape, b_shape):
    da = None if b is None else unbroadcast(dout * b, a_shape)
    db = None if a is None else unbroadcast(dout * a, b_shape)
    return da, db


def div(a: TensorLike, b: TensorLike, *, rounding_mode: str | None = None) -> Tensor:
    """a / b. rounding_mode: "floor" or "trunc", towards 0, for whole quotients, of which integers stay integers."""
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc":
        return trunc_divide(a, b)
    if rounding_mode is not None:
        raise ValueError(f'div: rounding_mode is {rounding_mode!r}; expected None, "floor" or "trunc"')
    a, b = map(floating, _operands(a, b))
    return record(a.data / b.data, (a, b), div_backward, a=_if_wanted(a.data, b), b=b.data, a_shape=a.shape)


def div_backward(dout, a, b, a_shape):
    da = unbroadcast(dout / b, a_shape)
    db = None if a is None else unbroadcast(-dout * (a / b) / b, b.shape)  # b * b might overflow
    return da, db


def pow(a: TensorLike, b: TensorLike) -> Tensor:
    """a ** b. The gradient of b needs a > 0."""
    a, b = _operands(a, b)
    out = a.data**b.data
    return record(out, (a, b), pow_backward, a=a.data, b=b.data, out=_if_wanted(out, b))


def pow_backward(dout, a, b, out):
    # b = 0 must give 0 even where a = 0, and 0 * 0 ** -1 would be NaN
    da = unbroadcast(dout * np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)), a.shape)
    # a = 0: out does not change with b >= 0, and 0 * log 0 would be NaN
    db = None if out is None else unbroadcast(dout * out * np.log(np.where((a == 0) & (b >= 0), 1, a)), b.shape)
    return da, db


def neg(x: TensorLike) -> Tensor:
    """-x."""
    x = as_tensor(x)
    return record(-x.data, (x,), neg_backward)


def neg_backward(dout):
    return -dout


def exp(x: TensorLike) -> Tensor:
    """e ** x."""
    x = floating(x)
    out = np.exp(x.data)
    return record(out, (x,), exp_backward, out=out)


def exp_backward(dout, out):
    return dout * out


def log(x: TensorLike) -> Tensor:
    """Natural logarithm."""
    x = floating(x)
    return record(np.log(x.data), (x,), log_backward, x=x.data)


def log_backward(dout, x):
    return dout / x


def sqrt(x: TensorLike) -> Tensor:
    """Square root."""
    x = floating(x)
    out = np.sqrt(x.data)
    return record(out, (x,), sqrt_backward, out=out)


def sqrt_backward(dout, out):
    return dout * 0.5 / out


def rsqrt(x: TensorLike) -> Tensor:
    """1 / sqrt(x)."""
    x = floating(x)
    out = 1.0 / np.sqrt(x.data)
    return record(out, (x,), rsqrt_backward, x=x.data, out=out)


def rsqrt_backward(dout, x, out):
    return dout * (-0.5 * out / np.abs(x))  # out ** 3 might underflow on the way; abs: 1 / -0.0 has another sign


def square(x: TensorLike) -> Tensor:
    """x * x; of booleans an integer."""
    x = as_tensor(x)
    x = astype(x, np.int64) if x.dtype.kind == "b" else x
    return mul(x, x)


def reciprocal(x: TensorLike) -> Tensor:
    """1 / x."""
    return div(1.0, x)


def sign_of(x):
    """The signs of an array's numbers; 0 for NaN, where NumPy has NaN."""
    if x.dtype.kind != "f":
        return x if x.dtype.kind == "b" else np.sign(x)
    signs = as_array(np.sign(x))
    signs[signs != signs] = 0
    return signs


def abs(x: TensorLike) -> Tensor:
    """|x|; the gradient at 0 is 0."""
    x = as_tensor(x)
    return record(np.abs(x.data), (x,), abs_backward, x=x.data)


def abs_backward(dout, x):
    return dout * sign_of(x)


def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent."""
    x = floating(x)
    return record(np.tanh(x.data), (x,), tanh_backward, x=x.data)


def tanh_backward(dout, x):
    sech = 2.0 * _half_sech(x)
    return dout * sech * sech  # 1 - tanh**2, which cancels where tanh is near 1


def _half_sech(x):
    """1 / (exp(x) + exp(-x)); no overflow."""
    small = np.exp(-np.abs(x))
    return small / (1.0 + small * small)


def _sigmoid(x):
    # 1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) for x < 0, where exp(-x) would overflow
    small = np.exp(-np.abs(x))
    return np.maximum(np.sign(x), small) / (1.0 + small)


def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x))."""
    x = floating(x)
    return record(_sigmoid(x.data), (x,), sigmoid_backward, x=x.data)


def sigmoid_backward(dout, x):
    small = np.exp(-np.abs(x))
    return dout * small / (1.0 + small) ** 2  # out * (1 - out), which cancels where out is near 1


def relu(x: TensorLike) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    x = as_tensor(x)
    return record(np.maximum(x.data, 0), (x,), relu_backward, x=x.data)


def relu_backward(dout, x):
    return dout * ~(x <= 0)  # and not x > 0: where x is NaN the gradient passes, as in PyTorch


def silu(x: TensorLike) -> Tensor:
    """x * sigmoid(x)."""
    x = floating(x)
    return record(_silu(x.data), (x,), silu_backward, x=x.data)


def silu_backward(dout, x):
    x = np.minimum(x, _saturation(x))
    root, ratio = _sigmoid_factors(x)
    return dout * ratio * (root + x * ratio)  # sigmoid + x * sigmoid * (1 - sigmoid)


def _silu(x):
    root, ratio = _sigmoid_factors(np.minimum(x, _saturation(x)))
    return x * ratio * root


def _sigmoid_factors(x):
    """exp(x / 2) and sigmoid(x) / exp(x / 2): x times both keeps its digits where the sigmoid itself is subnormal."""
    root = np.exp(0.5 * x)
    return root, root / (1.0 + root * root)


def _saturation(x):
    """A number from which on sigmoid(x) rounds to 1, and whose exponential is no overflow yet."""
    return 11.0 if x.dtype == np.float16 else 40.0


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of the two; where they are equal each gets half of the gradient."""
    a, b = _operands(a, b)
    return record(np.maximum(a.data, b.data), (a, b), maximum_backward, a=a.data, b=b.data)


def maximum_backward(dout, a, b):
    tied = a == b
    da, db = dout * _share(a < b, tied, dout.dtype), dout * _share(b < a, tied, dout.dtype)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    a, b = _operands(a, b)
    return record(np.minimum(a.data, b.data), (a, b), minimum_backward, a=a.data, b=b.data)


def minimum_backward(dout, a, b):
    tied = a == b
    da, db = dout * _share(a > b, tied, dout.dtype), dout * _share(b > a, tied, dout.dtype)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def _share(lost, tied, dtype):
    """0, 1/2 or 1. Where one is NaN neither has lost, and both get the whole gradient, as in PyTorch."""
    return np.where(tied, dtype.type(0.5), (~lost).astype(dtype))


def where(condition: TensorLike, a: TensorLike = None, b: TensorLike = None) -> Any:
    """a where condition holds, else b. condition: booleans, no gradient.

    where(condition) alone gives the places where it holds: for each axis a tensor of indices.
    """
    if a is None and b is None:
        return tuple(map(Tensor, as_tensor(condition).data.nonzero()))
    a, b = _operands(a, b)
    # a copy: the caller may write into its array before backward
    condition = np.array(condition.data if hasattr(condition, "node") else condition, dtype=bool, like=a.data)
    out = np.where(condition, a.data, b.data)
    return record(out, (a, b), where_backward, condition=condition, a_shape=a.shape, b_shape=b.shape)


def where_backward(dout, condition, a_shape, b_shape):
    zero = np.zeros((), dtype=dout.dtype, like=dout)
    da, db = np.where(condition, dout, zero), np.where(condition, zero, dout)
    return unbroadcast(da, a_shape), unbroadcast(db, b_shape)


@numpy_keywords(a_min="min", a_max="max")
def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """x limited to [min, max], either of which may be None or an array; `max`, where it is the smaller one.

    The gradient goes to x inside of the bounds and on them, outside to the bound that is the result.
    """
    if min is None and max is None:
        raise ValueError("clip needs min or max")
    if isinstance(x, Tensor) and x.dtype.kind == "f" and {type(min), type(max)} <= {*_SCALARS, type(None)}:
        low, high = -math.inf if min is None else min, math.inf if max is None else max
        return record(np.minimum(np.maximum(x.data, low), high), (x,), clip_backward, x=x.data, low=low, high=high)
    x, *bounds = promoted(x, *(bound for bound in (min, max) if bound is not None))
    least, greatest = _limits(x)
    min, max = least if min is None else bounds[0], greatest if max is None else bounds[-1]
    out = np.minimum(np.maximum(x.data, min.data), max.data)
    return record(out, (x, min, max), clip_backward, x=x.data, low=min.data, high=max.data)


def clip_backward(dout, x, low, high):
    dx = unbroadcast(dout * ((x >= low) & (x <= high)), x.shape)
    if not is_array(low):  # both bounds are numbers
        return dx
    dlow = unbroadcast(dout * ((x < low) & (low < high)), low.shape)
    dhigh = unbroadcast(dout * ((x > high) | (low > high)), high.shape)
    return dx, dlow, dhigh


def _limits(x):
    """The least and the greatest number of x's dtype, as Tensors."""
    if x.dtype.kind == "f":
        limits = -math.inf, math.inf
    else:
        limits = (False, True) if x.dtype.kind == "b" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return [constant(limit, x.data) for limit in limits]


from minigrad.ops.rounding import floor_divide, trunc_divide  # at the end: these need the functions above
