"""GELU in plain array code: the reference for the fast kernels."""

import math

import numpy as np

_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715


def gelu_forward(x, approximate):
    """x * Phi(x), Hendrycks & Gimpel 2016. approximate: "none" (erf) or "tanh" (GPT-2's). Any shape."""
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x)))
    return x * _normal_cdf(x)


def gelu_backward(dout, x, approximate, overwrite=False):
    """-> dx, shaped like x; written over x if `overwrite`."""
    if approximate == "tanh":
        t = np.tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x))
        du = _SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBIC * x * x)
        derivative = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
    else:
        density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
        derivative = _normal_cdf(x) + x * density
    if not overwrite:
        return dout * derivative
    x[...] = dout * derivative
    return x


def _normal_cdf(x):
    """P(Z <= x); through erfc, which unlike 1 + erf keeps its digits far in the negative tail."""
    cdf = [0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.ravel().tolist()]  # NumPy has no erf
    return np.array(cdf, dtype=x.dtype, like=x).reshape(x.shape)
