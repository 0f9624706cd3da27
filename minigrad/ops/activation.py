"""Activation functions of networks, one element at a time. gelu, which has kernels, stands in `nn.py`.

PyTorch's argument `inplace` may be False; True is refused.
"""

from typing import NoReturn

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, TensorLike
from minigrad.ops.elementwise import clip, div, floating, mul, where
from minigrad.ops.small_arrays import all_within, constants, may_hold_less, zeroed_where


def tanh(input: TensorLike) -> Tensor:
    """Hyperbolic tangent."""
    input = floating(input)
    return record(np.tanh(input.data), (input,), tanh_backward, x=input.data)


def tanh_backward(dout: Array, x: Array) -> Array:
    # 1 / cosh(x)**2: the same as 1 - tanh(x)**2, which cancels where tanh is near 1
    if all_within(x, 10):  # the fewest calls, of what cannot overflow; for more elements exp is faster than cosh
        cosh = np.cosh(x)
        return dout / cosh / cosh
    small = np.exp(-np.abs(x))
    sech = 2.0 * (small / (1.0 + small * small))
    return dout * sech * sech


def relu(input: TensorLike, inplace: bool = False) -> Tensor:
    """max(input, 0); the gradient at 0 is 0."""
    if inplace:
        _refuse_inplace("relu")
    input = as_tensor(input)
    return record(np.maximum(input.data, 0), (input,), relu_backward, x=input.data)


def relu_backward(dout: Array, x: Array) -> Array:
    zero = constants(x).zero
    return zeroed_where(x <= zero, dout, zero)  # where x is NaN the gradient passes, as in PyTorch


def sigmoid(input: TensorLike) -> Tensor:
    """1 / (1 + exp(-input))."""
    input = floating(input)
    return record(_sigmoid(input.data), (input,), sigmoid_backward, x=input.data)


def sigmoid_backward(dout: Array, x: Array) -> Array:
    _, one, minus_one, _, _ = constants(x)
    small = np.exp(np.copysign(x, minus_one))
    whole = one + small
    return dout * small / whole / whole  # out * (1 - out), which cancels where out is near 1


def _sigmoid(x: Array) -> Array:
    # exp(x) / (1 + exp(x)), whose left tail has all its digits; on the right exp might overflow
    _, one, _, high, _ = constants(x)
    large = np.exp(np.minimum(x, high))
    return large / (one + large)


def silu(input: TensorLike, inplace: bool = False) -> Tensor:
    """input * sigmoid(input)."""
    if inplace:
        _refuse_inplace("silu")
    input = floating(input)
    return record(_silu(input.data), (input,), silu_backward, x=input.data)


def silu_backward(dout: Array, x: Array) -> Array:
    zero, one, _, high, low = constants(x)
    x = np.minimum(x, high)
    with_tail = may_hold_less(x, low)  # where exp(x) would be subnormal, with fewer digits
    large = np.exp(np.maximum(x, low) if with_tail else x)
    whole = one + large
    # sigmoid * (1 + x * (1 - sigmoid)), of which 1 + x is exact near -2.4, where both terms would be large
    slope = (large / whole) * ((one + x + large) / whole)
    return dout * (slope * np.exp(np.minimum(x - low, zero)) if with_tail else slope)


def _silu(x: Array) -> Array:
    zero, one, _, _, low = constants(x)
    if not may_hold_less(x, low):
        return x / (one + np.exp(-x))
    return x / (one + np.exp(-np.maximum(x, low))) * np.exp(np.minimum(x - low, zero))


def softplus(input: TensorLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta of the input x, and x itself where beta x > threshold."""
    input = _floats("softplus", input)
    scaled = input.data * float(beta)
    out = np.where(scaled > threshold, input.data, log1p_exp(scaled) / float(beta))
    return record(out, (input,), softplus_backward, x=input.data, beta=float(beta), threshold=threshold)


def softplus_backward(dout: Array, x: Array, beta: float, threshold: float) -> Array:
    scaled = x * beta
    return dout * np.where(scaled > threshold, 1, _sigmoid(scaled))


def logsigmoid(input: TensorLike) -> Tensor:
    """log(sigmoid(input)), without forming the sigmoid first."""
    input = _floats("logsigmoid", input)
    return record(-log1p_exp(-input.data), (input,), logsigmoid_backward, x=input.data)


def logsigmoid_backward(dout: Array, x: Array) -> Array:
    return dout * _sigmoid(-x)


def log1p_exp(x: Array) -> Array:
    """log(1 + exp(x)) of an array: exp never overflows, and a large negative x keeps its digits."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(input: TensorLike, alpha: float = 1.0, inplace: bool = False, *, scale: float = 1.0) -> Tensor:
    """scale * (x where x > 0, else alpha * (exp(x) - 1)) of the input x. Clevert et al. 2015."""
    if inplace:
        _refuse_inplace("elu")
    x = input = _floats("elu", input)
    alpha, scale = float(alpha), float(scale)
    out = np.where(x.data > 0, x.data * scale, np.expm1(np.minimum(x.data, 0)) * (alpha * scale))
    return record(out, (x,), elu_backward, x=x.data, alpha=alpha, scale=scale)


def elu_backward(dout: Array, x: Array, alpha: float, scale: float) -> Array:
    return dout * np.where(x > 0, scale, np.exp(np.minimum(x, 0)) * (alpha * scale))


def selu(input: TensorLike, inplace: bool = False) -> Tensor:
    """elu with the constants that keep mean 0 and variance 1. Klambauer et al. 2017."""
    if inplace:
        _refuse_inplace("selu")
    return elu(input, 1.6732632423543772848170429916717, scale=1.0507009873554804934193349852946)


def celu(input: TensorLike, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1), of the input x. Barron 2017."""
    if inplace:
        _refuse_inplace("celu")
    x = _floats("celu", input)
    return where(x.data > 0, x, mul(elu(div(x, alpha)), alpha))


def leaky_relu(input: TensorLike, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x, of the input x. Maas et al. 2013."""
    if inplace:
        _refuse_inplace("leaky_relu")
    x = _floats("leaky_relu", input)
    return where(x.data > 0, x, mul(x, negative_slope))


def hardtanh(input: TensorLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The input limited to [min_val, max_val]; the gradient is 0 on the bounds and outside."""
    if inplace:
        _refuse_inplace("hardtanh")
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} exceeds max_val {max_val}")
    x = as_tensor(input)
    if x.dtype.kind != "f":
        min_val, max_val = int(min_val), int(max_val)
    limited = clip(x, min_val, max_val)
    return where((x.data <= min_val) | (x.data >= max_val), limited.detach(), limited)


def relu6(input: TensorLike, inplace: bool = False) -> Tensor:
    """The input limited to [0, 6]; the gradient is 0 on the bounds and outside."""
    if inplace:
        _refuse_inplace("relu6")
    return hardtanh(input, 0, 6)


def _refuse_inplace(name: str) -> NoReturn:
    raise TypeError(f"{name}: inplace=True is not supported; say x = {name}(x)")


def _floats(name: str, x: TensorLike) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{name} takes floats, not {x.dtype}; say x.float()")
    return x
