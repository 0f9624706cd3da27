"""Errors of computed numbers, in units of rounding u = 2**-bits.

The mixed error of y, computed for f(x), is the smallest t for which y = f(x (1 + d)) (1 + e) with |d|, |e| <= t u: the
exact function of nearly the given number, nearly. To first order in d and e, which is enough while t u is small,

    t = |y - f(x)| / (u (|f(x)| + |x f'(x)|))

Near a root of f, and in a tail where f changes by many units for one unit of x, no program that rounds an argument has
a small relative error |y - f(x)| / (u |f(x)|); the mixed error it can have. Where f is defined by cases, f' is that of
the case that x belongs to.

A result within one step between subnormal numbers of f(x) counts as exact (`steps` allows more); so does an infinity
where f(x) rounds to it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import mpmath
import numpy as np
from mpmath import mpf

from minigrad.accuracy.formats import Format

Exact: TypeAlias = list[Any]  # numbers of mpmath, an mpf each

mpmath.mp.dps = 50  # far more digits than float64 has, and room for one difference quotient
_STEP = mpf(10) ** -20


class Worst(NamedTuple):
    """The largest error over some numbers, and the number it was found at."""

    error: float
    x: float

    def __str__(self) -> str:
        return f"{self.error:.3g} at x = {self.x:.9g}"


def exact(function: Callable[[Any], Any], x: np.ndarray) -> Exact:
    """function, of mpmath, at every number of an array, as a list of mpf."""
    return [function(mpf(float(v))) for v in x]


def slopes_by_difference(function: Callable[[Any], Any], x: np.ndarray, values: Exact) -> Exact:
    """x f'(x) for a function without a derivative: how it changes for a relative change of x. values: f(x)."""
    return [(function(mpf(float(v)) * (1 + _STEP)) - f) / _STEP for v, f in zip(x, values, strict=True)]


def overflow(form: Format) -> Any:
    """The magnitude from which on a number rounds to infinity."""
    return mpf(2) ** form.largest_exponent * (2 - mpf(form.unit))


def mixed_error(
    form: Format, x: np.ndarray, computed: np.ndarray, values: Exact, slopes: Exact, steps: float = 1.0
) -> Worst:
    """The largest mixed error of an array. values: f(x); slopes: x f'(x), both as mpf."""
    sizes = [abs(value) + abs(slope) for value, slope in zip(values, slopes, strict=True)]
    return _largest(form, x, computed, values, [form.unit * size for size in sizes], steps)


def ulp_error(form: Format, x: np.ndarray, computed: np.ndarray, values: Exact) -> Worst:
    """The largest difference from f(x), in units of f(x)'s last place."""
    places = [mpf(2) ** (mpmath.frexp(value)[1] - form.bits) for value in values]
    return _largest(form, x, computed, values, places, 1.0)


def _largest(form: Format, x: np.ndarray, computed: np.ndarray, values: Exact, units: Exact, steps: float) -> Worst:
    differences = map(_difference, [form] * len(values), np.asarray(computed, np.float64), values)
    negligible = steps * form.smallest * (1.0 + form.unit)  # a step as exactly as it is known
    errors = [d / unit if d > negligible else mpf(0) for d, unit in zip(differences, units, strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i])
    return Worst(float(errors[worst]), float(x[worst]))


def _difference(form: Format, computed: Any, value: Any) -> Any:
    """|computed - value|; 0 where an infinity is right, infinite for a NaN."""
    if np.isnan(computed):
        return mpf("inf")
    if np.isinf(computed):
        computed = overflow(form) * float(np.sign(computed))
        if abs(value) >= overflow(form) and value * computed > 0:
            return mpf(0)
    return abs(mpf(float(computed)) - value)
