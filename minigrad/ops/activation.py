"""Activation functions of networks, one element at a time: PyTorch's beside relu, sigmoid, silu and gelu."""

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import TensorLike
from minigrad.ops.elementwise import _sigmoid, clip, div, mul, where


def softplus(x: TensorLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    x = _floats("softplus", x)
    scaled = x.data * float(beta)
    out = np.where(scaled > threshold, x.data, log1p_exp(scaled) / float(beta))
    return record(out, (x,), softplus_backward, x=x.data, beta=float(beta), threshold=threshold)


def softplus_backward(dout, x, beta, threshold):
    scaled = x * beta
    return dout * np.where(scaled > threshold, 1, _sigmoid(scaled))


def logsigmoid(x: TensorLike) -> Tensor:
    """log(sigmoid(x)), without forming sigmoid(x) first."""
    x = _floats("logsigmoid", x)
    return record(-log1p_exp(-x.data), (x,), logsigmoid_backward, x=x.data)


def logsigmoid_backward(dout, x):
    return dout * _sigmoid(-x)


def log1p_exp(x):
    """log(1 + exp(x)) of an array: exp never overflows, and a large negative x keeps its digits."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x: TensorLike, alpha: float = 1.0, scale: float = 1.0) -> Tensor:
    """scale * (x where x > 0, else alpha * (exp(x) - 1)). Clevert et al. 2015."""
    x, alpha, scale = _floats("elu", x), float(alpha), float(scale)
    out = np.where(x.data > 0, x.data * scale, np.expm1(np.minimum(x.data, 0)) * (alpha * scale))
    return record(out, (x,), elu_backward, x=x.data, alpha=alpha, scale=scale)


def elu_backward(dout, x, alpha, scale):
    return dout * np.where(x > 0, scale, np.exp(np.minimum(x, 0)) * (alpha * scale))


def selu(x: TensorLike) -> Tensor:
    """elu with the constants that keep mean 0 and variance 1. Klambauer et al. 2017."""
    return elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1). Barron 2017."""
    x = _floats("celu", x)
    return where(x.data > 0, x, mul(elu(div(x, alpha)), alpha))


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x. Maas et al. 2013."""
    x = _floats("leaky_relu", x)
    return where(x.data > 0, x, mul(x, negative_slope))


def hardtanh(x: TensorLike, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x limited to [min_val, max_val]; the gradient is 0 on the bounds and outside."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} exceeds max_val {max_val}")
    x = as_tensor(x)
    if x.dtype.kind != "f":
        min_val, max_val = int(min_val), int(max_val)
    limited = clip(x, min_val, max_val)
    return where((x.data <= min_val) | (x.data >= max_val), limited.detach(), limited)


def relu6(x: TensorLike) -> Tensor:
    """x limited to [0, 6]; the gradient is 0 on the bounds and outside."""
    return hardtanh(x, 0, 6)


def _floats(name, x):
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{name} takes floats, not {x.dtype}; say x.float()")
    return x
