"""The table of elementwise functions: each operation, and what mpmath computes for it and for its derivative.

A new function is one more line of FUNCTIONS. A test asks for one of every elementwise function in minigrad.functional
and of every operation with kernels, or for its line in NOT_HELD.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf

from minigrad import functional as F
from minigrad.accuracy.kernel_functions import ATTENTION, CROSS_ENTROPY, GELU, GELU_TANH, LAYERNORM, RMSNORM, Kernels

EVERYWHERE = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


class Function(NamedTuple):
    """A function of one number."""

    name: str
    call: Callable[..., Any] | None  # of a Tensor; None: it has kernels
    value: Callable[..., Any]  # what it computes, in mpmath
    derivative: Callable[..., Any]
    domain: tuple[float, float] = EVERYWHERE
    around: tuple[float, ...] = ()  # roots of both, and numbers at which the code goes another way
    plain: bool = False  # forward is held in ulp too
    kernels: Kernels | None = None  # a row for every backend
    of: tuple[str, ...] = ()  # names in minigrad.functional, where they are not the name of the row


class Exemption(NamedTuple):
    """A function that may exceed the bound, by how much, and why."""

    function: str
    direction: str  # "forward" or "backward"
    formats: tuple[str, ...]
    reason: str
    allowed: float = 4.0  # units of rounding
    steps: float = 1.0  # between subnormal numbers
    backends: tuple[str, ...] = ()  # all, if none is named


def _sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-x))


def _normal_cdf(x: mpf) -> mpf:
    if abs(x) > 1e4:  # mpmath's erfc takes no larger numbers
        return mpf(x > 0)
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def _normal_density(x: mpf) -> mpf:
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


_TWICE_ROOT, _CUBIC = 2 * mpmath.sqrt(2 / mpmath.pi), mpf("0.044715")


def _tanh_gelu_gate(x: mpf) -> mpf:
    return _sigmoid(_TWICE_ROOT * (x + _CUBIC * x**3))


def _tanh_gelu_derivative(x: mpf) -> mpf:
    s, t = _tanh_gelu_gate(x), _tanh_gelu_gate(-x)  # t = 1 - s, all of whose digits count
    return s + x * s * t * _TWICE_ROOT * (1 + 3 * _CUBIC * x * x)


def _sign(x: mpf) -> mpf:
    return mpf(mpmath.sign(x))


def _zero(x: mpf) -> mpf:
    return mpf(0)


def _one(x: mpf) -> mpf:
    return mpf(1)


def _log1p_exp(x: mpf) -> mpf:
    return mpmath.log1p(mpmath.exp(x)) if x < 200 else x + mpmath.exp(-x)


def _softplus(x: mpf) -> mpf:
    return x if x > 20 else _log1p_exp(x)


#: alpha and scale of Klambauer et al. 2017
_SELU = mpf("1.6732632423543772848170429916717"), mpf("1.0507009873554804934193349852946")

FUNCTIONS = (
    Function("exp", F.exp, mpmath.exp, mpmath.exp, plain=True),
    Function("log", F.log, mpmath.log, lambda x: 1 / x, POSITIVE, (1.0,), plain=True),
    Function("sqrt", F.sqrt, mpmath.sqrt, lambda x: 0.5 / mpmath.sqrt(x), POSITIVE, plain=True),
    Function("tanh", F.tanh, mpmath.tanh, lambda x: mpmath.sech(x) ** 2, plain=True),
    Function("sigmoid", F.sigmoid, _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), plain=True),
    Function("silu", F.silu, lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
             around=(-1.278464542761074, 11.0, 40.0)),
    Function("gelu", None, lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_density(x),
             around=(-0.7517915246935645, -1.4142135623730951, -13.0, -37.0), kernels=GELU),
    Function("gelu, tanh", None, lambda x: x * _tanh_gelu_gate(x), _tanh_gelu_derivative,
             around=(-0.7524614220710162, -1.45, -12.9525, 8.7), kernels=GELU_TANH, of=("gelu",)),
    Function("exp2", F.exp2, lambda x: mpf(2) ** x, lambda x: mpf(2) ** x * mpmath.log(2)),
    Function("expm1", F.expm1, mpmath.expm1, mpmath.exp),
    Function("log2", F.log2, lambda x: mpmath.log(x, 2), lambda x: 1 / (x * mpmath.log(2)), POSITIVE, (1.0,)),
    Function("log10", F.log10, mpmath.log10, lambda x: 1 / (x * mpmath.log(10)), POSITIVE, (1.0,)),
    Function("log1p", F.log1p, mpmath.log1p, lambda x: 1 / (1 + x), (-1.0, math.inf)),
    Function("rsqrt", F.rsqrt, lambda x: 1 / mpmath.sqrt(x), lambda x: -0.5 / (x * mpmath.sqrt(x)), POSITIVE),
    Function("reciprocal", F.reciprocal, lambda x: 1 / x, lambda x: -1 / x**2, POSITIVE),
    Function("square", F.square, lambda x: x**2, lambda x: 2 * x),
    Function("sin", F.sin, mpmath.sin, mpmath.cos, around=(math.pi, math.pi / 2)),
    Function("cos", F.cos, mpmath.cos, lambda x: -mpmath.sin(x), around=(math.pi, math.pi / 2)),
    Function("softplus", F.softplus, _softplus, lambda x: mpf(1) if x > 20 else _sigmoid(x), around=(20.0,)),
    Function("logsigmoid", F.logsigmoid, lambda x: -_log1p_exp(-x), lambda x: _sigmoid(-x)),
    Function("elu", F.elu, lambda x: x if x > 0 else mpmath.expm1(x), lambda x: mpf(1) if x > 0 else mpmath.exp(x)),
    Function("selu", F.selu, lambda x: _SELU[1] * (x if x > 0 else _SELU[0] * mpmath.expm1(x)),
             lambda x: _SELU[1] * (1 if x > 0 else _SELU[0] * mpmath.exp(x))),
    Function("leaky_relu", F.leaky_relu, lambda x: x if x > 0 else x * mpf(0.01), lambda x: mpf(1 if x > 0 else 0.01)),
    Function("hardtanh", F.hardtanh, lambda x: min(max(x, mpf(-1)), mpf(1)), lambda x: mpf(-1 < x < 1),
             around=(-1.0, 1.0)),
    Function("relu6", F.relu6, lambda x: min(max(x, mpf(0)), mpf(6)), lambda x: mpf(0 < x < 6), around=(6.0,)),
    Function("celu(x, 2)", lambda x: F.celu(x, 2.0), lambda x: x if x > 0 else 2 * mpmath.expm1(x / 2),
             lambda x: mpf(1) if x > 0 else mpmath.exp(x / 2), of=("celu",)),
    Function("bce_with_logits",  # of a positive one; at other targets two terms cancel
             lambda x: F.binary_cross_entropy_with_logits(x, np.ones_like(x.data), reduction="none"),
             lambda x: _log1p_exp(-x), lambda x: -_sigmoid(-x), of=("binary_cross_entropy_with_logits",)),
    Function("x % 1.5", lambda x: x % 1.5, lambda x: mpmath.fmod(x, 1.5) + 1.5 * (mpmath.fmod(x, 1.5) < 0), _one,
             of=("remainder",)),
    Function("x // 1.5", lambda x: x // 1.5, lambda x: mpmath.floor(x / 1.5), _zero, of=("floor_divide",)),
    Function("floor", F.floor, mpmath.floor, _zero),
    Function("ceil", F.ceil, mpmath.ceil, _zero),
    Function("trunc", F.trunc, lambda x: mpmath.sign(x) * mpmath.floor(abs(x)), _zero),
    Function("round", F.round, mpmath.nint, _zero, around=(0.5, 1.5, 2.5), of=("round", "rint")),
    Function("sign", F.sign, _sign, _zero),
    Function("relu", F.relu, lambda x: max(x, mpf(0)), lambda x: mpf(x > 0)),
    Function("abs", F.abs, abs, _sign),
    Function("neg", F.neg, lambda x: -x, lambda x: mpf(-1)),
    Function("clip(-2, 3)", lambda x: F.clip(x, -2, 3), lambda x: min(max(x, mpf(-2)), mpf(3)),
             lambda x: mpf(-2 <= x <= 3), around=(-2.0, 3.0), of=("clip",)),
    Function("maximum(x, 1.5)", lambda x: F.maximum(x, 1.5), lambda x: max(x, mpf(1.5)),
             lambda x: mpf(0.5 + 0.5 * _sign(x - 1.5)), around=(1.5,), of=("maximum", "max")),
    Function("minimum(x, 1.5)", lambda x: F.minimum(x, 1.5), lambda x: min(x, mpf(1.5)),
             lambda x: mpf(0.5 - 0.5 * _sign(x - 1.5)), around=(1.5,), of=("minimum", "min")),
    Function("x + 1.5", lambda x: x + 1.5, lambda x: x + 1.5, _one, around=(-1.5,), of=("add",)),
    Function("1.5 - x", lambda x: 1.5 - x, lambda x: 1.5 - x, lambda x: mpf(-1), around=(1.5,), of=("sub",)),
    Function("x * 1.5", lambda x: x * 1.5, lambda x: x * 1.5, lambda x: mpf(1.5), of=("mul",)),
    Function("x / 1.5", lambda x: x / 1.5, lambda x: x / 1.5, lambda x: 1 / mpf(1.5), of=("div",)),
    Function("1.5 / x", lambda x: 1.5 / x, lambda x: 1.5 / x, lambda x: -1.5 / x**2, POSITIVE, of=("div",)),
    Function("x ** 2", lambda x: x**2, lambda x: x**2, lambda x: 2 * x, of=("pow",)),
    Function("x ** 3", lambda x: x**3, lambda x: x**3, lambda x: 3 * x**2, of=("pow",)),
    Function("x ** -1.5", lambda x: x**-1.5, lambda x: x ** mpf(-1.5), lambda x: -1.5 * x ** mpf(-2.5), POSITIVE,
             of=("pow",)),
    Function("1.5 ** x", lambda x: 1.5**x, lambda x: mpf(1.5) ** x, lambda x: mpf(1.5) ** x * mpmath.log(1.5),
             of=("pow",)),
    # what stands inside of other kernels, alone
    Function("attention", None, _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), kernels=ATTENTION),
    Function("cross_entropy", None, _log1p_exp, _sigmoid, kernels=CROSS_ENTROPY),
    Function("layernorm", None, lambda x: x / mpmath.sqrt(x * x + 1), lambda x: mpmath.sqrt(x * x + 1) ** -3,
             kernels=LAYERNORM),
    Function("rmsnorm", None, lambda x: x * mpmath.sqrt(2 / (x * x + 1)),
             lambda x: mpmath.sqrt(2) * mpmath.sqrt(x * x + 1) ** -3, kernels=RMSNORM),
)  # fmt: skip

#: Elementwise functions and operations with kernels that have no row, and why.
NOT_HELD = {
    "mse_loss": "the square of a difference: square and sub are held",
    "l1_loss": "the magnitude of a difference: abs and sub are held",
    "huber_loss": "products and sums of a difference, in pieces",
    "smooth_l1_loss": "products and sums of a difference, in pieces",
    "kl_div": "products, a difference and log, which are held",
    "dropout": "a product with 0 or 1 / (1 - p); tests/kernels/test_parity_rows.py compares the backends",
    "linear": "products and sums, without a function of its own",
    "linear_cross_entropy": "the cross-entropy of products and sums; cross_entropy is held",
    "embedding": "copies numbers and sums them",
    "cast": "rounds to the nearest; tests/kernels/test_parity_mixed_precision.py compares every 16-bit number",
    "adamw": "an update rule; tests/minigrad/test_optim_torch.py compares it with PyTorch's",
    "global_norm": "a sum of squares, and a root",
    "scale_and_check": "products with one number",
}

_CANCELS = (
    "near {} the derivative has a slope of 0 and is the difference of two terms, one of them larger than itself: the "
    "mixed error is the relative error of that difference"
)
_TWO_ROUNDED = "in the tail it is the sum of two subnormal numbers, each of them rounded"
_ROUNDED_FIRST = "the power is rounded to a subnormal number before it is multiplied by a constant"
_NO_SUBNORMAL = "probabilities below the smallest normal number, 1.2e-38, are 0, as PyTorch's on the CPU"
_NUMPY = ("float64", "float32", "float16")
#: At most ten.
EXEMPTIONS = (
    Exemption(
        "gelu",
        "backward",
        ("float64", "float32"),
        f"{_CANCELS.format('x = -1.4')} (PyTorch's in float32: 14); {_TWO_ROUNDED}",
        10.0,
        2.0,
    ),
    Exemption(
        "gelu, tanh",
        "backward",
        ("float64", "float32"),
        f"{_CANCELS.format('x = -1.4')} (PyTorch's in float32: 9)",
        allowed=12.0,
    ),
    Exemption("silu", "backward", _NUMPY, _CANCELS.format("x = -2.4"), allowed=7.0),
    Exemption("exp2", "backward", _NUMPY, _ROUNDED_FIRST, steps=2.0),
    Exemption("selu", "backward", _NUMPY, _ROUNDED_FIRST, steps=2.0),
    Exemption(
        "celu(x, 2)", "forward", _NUMPY, "x / 2 is rounded to a subnormal number, and its function doubled", steps=2.0
    ),
    Exemption("x ** 3", "backward", _NUMPY, _ROUNDED_FIRST, steps=2.0),
    Exemption("x ** -1.5", "backward", _NUMPY, _ROUNDED_FIRST, steps=2.0),
    Exemption("attention", "forward", ("float32",), _NO_SUBNORMAL, steps=2.0**23, backends=("cpu",)),
)
