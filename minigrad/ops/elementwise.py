"""Operations on one element at a time, broadcasting as NumPy does."""

import builtins

import numpy as np

from kernels.arrays import accurate_sum
from minigrad._tensor import as_tensor, record


def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an input of `shape` was broadcast."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 and grad.shape[i + added] != 1)
    return accurate_sum(grad, tuple(range(added)) + stretched).reshape(shape)


def _operands(a, b):
    """Two Tensors of one dtype: scalars follow the tensor, arrays are promoted as NumPy does."""
    a, b = as_tensor(a, like=b if hasattr(b, "dtype") else None), as_tensor(b, like=a if hasattr(a, "dtype") else None)
    if a.dtype != b.dtype:
        common = np.result_type(a.dtype, b.dtype)
        a, b = astype(a, common), astype(b, common)
    return a, b


def _if_wanted(array, other):
    """`array`, if the gradient of the Tensor `other` needs it: what is not needed is not kept alive."""
    return array if other.requires_grad else None


def astype(x, dtype):
    """Convert to another floating-point dtype."""
    dtype = np.dtype(dtype)
    return x if x.dtype == dtype else record(x.data.astype(dtype), (x,), astype_backward, dtype=x.dtype)


def astype_backward(dout, dtype):
    return dout.astype(dtype)


def add(a, b):
    """a + b."""
    a, b = _operands(a, b)
    return record(a.data + b.data, (a, b), add_backward, a_shape=a.shape, b_shape=b.shape)


def add_backward(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(dout, b_shape)


def sub(a, b):
    """a - b."""
    a, b = _operands(a, b)
    return record(a.data - b.data, (a, b), sub_backward, a_shape=a.shape, b_shape=b.shape)


def sub_backward(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(-dout, b_shape)


def mul(a, b):
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


def div(a, b):
    """a / b."""
    a, b = _operands(a, b)
    return record(a.data / b.data, (a, b), div_backward, a=_if_wanted(a.data, b), b=b.data, a_shape=a.shape)


def div_backward(dout, a, b, a_shape):
    da = unbroadcast(dout / b, a_shape)
    db = None if a is None else unbroadcast(-dout * (a / b) / b, b.shape)  # b * b might overflow
    return da, db


def pow(a, b):
    """a ** b. The gradient of b needs a > 0."""
    a, b = _operands(a, b)
    out = a.data**b.data
    return record(out, (a, b), pow_backward, a=a.data, b=b.data, out=_if_wanted(out, b))


def pow_backward(dout, a, b, out):
    # b = 0 must give 0 even where a = 0, and 0 * 0 ** -1 would be NaN
    da = unbroadcast(dout * np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1)), a.shape)
    # a = 0: out does not change with b > 0, and 0 * log 0 would be NaN
    db = None if out is None else unbroadcast(dout * out * np.log(np.where(out == 0, 1, a)), b.shape)
    return da, db


def neg(x):
    """-x."""
    return record(-x.data, (x,), neg_backward)


def neg_backward(dout):
    return -dout


def exp(x):
    """e ** x."""
    out = np.exp(x.data)
    return record(out, (x,), exp_backward, out=out)


def exp_backward(dout, out):
    return dout * out


def log(x):
    """Natural logarithm."""
    return record(np.log(x.data), (x,), log_backward, x=x.data)


def log_backward(dout, x):
    return dout / x


def sqrt(x):
    """Square root."""
    out = np.sqrt(x.data)
    return record(out, (x,), sqrt_backward, out=out)


def sqrt_backward(dout, out):
    return dout * 0.5 / out


def abs(x):
    """|x|; the gradient at 0 is 0."""
    return record(np.abs(x.data), (x,), abs_backward, x=x.data)


def abs_backward(dout, x):
    return dout * np.sign(x)


def tanh(x):
    """Hyperbolic tangent."""
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
    return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return record(_sigmoid(x.data), (x,), sigmoid_backward, x=x.data)


def sigmoid_backward(dout, x):
    root = _half_sech(0.5 * x)
    return dout * root * root  # out * (1 - out), which cancels where out is near 1


def relu(x):
    """max(x, 0); the gradient at 0 is 0."""
    return record(np.maximum(x.data, 0), (x,), relu_backward, x=x.data)


def relu_backward(dout, x):
    return dout * (x > 0)


def silu(x):
    """x * sigmoid(x)."""
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


def maximum(a, b):
    """The larger of the two; where they are equal each gets half of the gradient."""
    a, b = _operands(a, b)
    return record(np.maximum(a.data, b.data), (a, b), maximum_backward, a=a.data, b=b.data)


def maximum_backward(dout, a, b):
    tied = a == b
    da, db = dout * _share(a > b, tied, dout.dtype), dout * _share(b > a, tied, dout.dtype)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def minimum(a, b):
    """The smaller of the two; where they are equal each gets half of the gradient."""
    a, b = _operands(a, b)
    return record(np.minimum(a.data, b.data), (a, b), minimum_backward, a=a.data, b=b.data)


def minimum_backward(dout, a, b):
    tied = a == b
    da, db = dout * _share(a < b, tied, dout.dtype), dout * _share(b < a, tied, dout.dtype)
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def _share(chosen, tied, dtype):
    return np.where(tied, dtype.type(0.5), chosen.astype(dtype))


def where(condition, a, b):
    """a where condition holds, else b. condition: a boolean array, no gradient."""
    a, b = _operands(a, b)
    # a copy: the caller may write into its array before backward
    condition = np.array(condition.data if hasattr(condition, "node") else condition, dtype=bool, like=a.data)
    out = np.where(condition, a.data, b.data)
    return record(out, (a, b), where_backward, condition=condition, a_shape=a.shape, b_shape=b.shape)


def where_backward(dout, condition, a_shape, b_shape):
    zero = np.zeros((), dtype=dout.dtype, like=dout)
    da, db = np.where(condition, dout, zero), np.where(condition, zero, dout)
    return unbroadcast(da, a_shape), unbroadcast(db, b_shape)


def clip(x, min=None, max=None):
    """x limited to [min, max], either of which may be None; the gradient is 0 outside."""
    low = -np.inf if min is None else builtins.float(min)
    high = np.inf if max is None else builtins.float(max)
    return record(np.clip(x.data, low, high), (x,), clip_backward, x=x.data, low=low, high=high)


def clip_backward(dout, x, low, high):
    return dout * ((x >= low) & (x <= high))
