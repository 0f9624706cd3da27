"""GELU in plain array code: the reference for the fast kernels.

The tanh form is x s(2u) with the logistic function s, since 0.5 (1 + tanh(u)) = s(2u): no cancellation. s is formed as
root * ratio, root = exp(u) and ratio = root / (1 + root**2). Far in the tail, x times one and then times the other
keeps its digits where s itself is subnormal or 0. All is computed in float64.
"""

import math
from collections.abc import Callable

import numpy as np

from kernels.arrays import Array, as_array

_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_LOWEST, _HIGHEST = -30.0, 9.0  # beyond them s(2u) is 0 and 1, in float64 too
_ERFC_VANISHES = -37.0  # below, erfc is nearly subnormal in float64


def gelu_forward(x: Array, approximate: str) -> Array:
    """x * Phi(x), Hendrycks & Gimpel 2016. approximate: "none" (erf) or "tanh" (GPT-2's). Any shape."""
    wide = _widened(x)
    if approximate == "tanh":
        root, ratio = _factors_of_gate(np.minimum(wide, _HIGHEST))
        out = wide * ratio * root
    else:
        out = _of_each(_times_normal_cdf, wide)
    return out.astype(x.dtype, copy=False)


def gelu_backward(dout: Array, x: Array, approximate: str, overwrite: bool = False) -> Array:
    """-> dx, shaped like x; written over x if `overwrite`."""
    wide_dout, wide = _widened(dout), _widened(x)
    if approximate == "tanh":
        wide = np.minimum(np.maximum(wide, _LOWEST), _HIGHEST)
        root, ratio = _factors_of_gate(wide)
        du2 = 2.0 * _SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBIC * wide * wide)
        dx = wide_dout * ratio * (root + wide * ratio * du2)  # s + x * s * (1 - s) * du2
    else:
        wide = np.maximum(wide, -1e3)  # whose square does not overflow
        exponent = np.where(wide < _ERFC_VANISHES, -0.25, -0.5) * wide * wide  # far in the tail half of it, twice
        density = np.exp(exponent) * _INV_SQRT_2PI
        rest = np.where(wide < _ERFC_VANISHES, np.exp(exponent), 1.0)
        dx = wide_dout * _normal_cdf(wide) + wide_dout * wide * density * rest
    if not overwrite:
        return dx.astype(x.dtype, copy=False)
    x[...] = dx
    return x


def _factors_of_gate(x: Array) -> tuple[Array, Array]:
    """root, ratio: their product is s(2u)."""
    root = np.exp(_SQRT_2_OVER_PI * x * (1.0 + _CUBIC * x * x))
    return root, root / (1.0 + root * root)


def _normal_cdf(x: Array) -> Array:
    """P(Z <= x); through erfc, which unlike 1 + erf keeps its digits far in the negative tail."""
    return _of_each(lambda v: 0.5 * math.erfc(-v * math.sqrt(0.5)), x)  # NumPy has no erf


def _times_normal_cdf(v: float) -> float:
    """v * P(Z <= v) of a float64 number."""
    if v > _ERFC_VANISHES or math.isnan(v):
        return v * 0.5 * math.erfc(-v * math.sqrt(0.5))
    # erfc's asymptotic series, Abramowitz & Stegun 7.1.23
    root, q = math.exp(-0.25 * v * v), 1.0 / (v * v)
    return -root * _INV_SQRT_2PI * (1.0 - q * (1.0 - 3.0 * q * (1.0 - 5.0 * q * (1.0 - 7.0 * q)))) * root


def _of_each(function: Callable[[float], float], x: Array) -> Array:
    """An array like x, of a function of float64 numbers."""
    return np.array([function(v) for v in x.ravel().tolist()], dtype=x.dtype, like=as_array(x)).reshape(x.shape)


def _widened(x: Array) -> Array:
    return x.astype(np.float64, copy=False)
