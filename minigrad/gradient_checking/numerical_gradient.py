"""The numerical gradient of a function along a direction, and the search for the coordinates that backward got wrong.

This file measures; `check` decides whether a gradient is wrong, `likely_causes` why.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from minigrad.gradient_checking.probe import Probe

EPS = np.finfo(np.float64).eps


class NumericalGradient(NamedTuple):
    """A derivative along a direction, the rounding noise in it, and how far its two sides differ at two steps."""

    numeric: float
    noise: float
    bends: tuple[float, float]


def numerical_gradient(
    probe: Probe, name: str, direction: np.ndarray, upstream: list[np.ndarray], step: float, here: list[float]
) -> NumericalGradient:
    """The derivative of sum(output * upstream) along `direction` of an input. here: the values where it stands.

    Central differences D at steps h and h / 2, extrapolated: (4 D(h/2) - D(h)) / 3 cancels the h**2 term.
    """
    x, coarse = probe.checked[name], probe.precision.eps > EPS
    h = step * max(1.0, float(np.abs(x[direction != 0]).max(initial=0.0)) if np.count_nonzero(direction) == 1 else 1.0)
    if coarse:  # in a long direction each element moves by little, which float32 rounds: longer, to at most `step` each
        h *= min(10.0, max(1.0, 1.0 / np.abs(direction).max()))
    differences, bends, magnitude, rounding = [], [], 0.0, 0.0
    for size in (h, 0.5 * h):
        products = [probe.moved(name, x + s * direction, probe.products, upstream) for s in (size, -size)]
        above, below = ([float(product.sum()) for product in each] for each in products)
        if coarse:
            rounding = max(rounding, _norm_of_changed(*products))
        differences.append(sum(a - b for a, b in zip(above, below, strict=True)) / (2.0 * size))
        bends.append(abs(sum(a + b - 2.0 * c for a, b, c in zip(above, below, here, strict=True))) / size)
        magnitude = max(magnitude, *map(abs, above), *map(abs, below))
    # values are sums of many terms, each rounded: 10 eps of the largest, carried through the division; and the
    # analytic side of a gradient that is 0 may be rounding too, in units of the upstream gradient, which is ~1
    noise = 10.0 * EPS * max(magnitude / h, 1.0)
    if coarse:  # sums are taken in float64; the outputs that changed were rounded in float32
        noise += 10.0 * probe.precision.eps * max(rounding / h, 1.0)
    return NumericalGradient((4.0 * differences[1] - differences[0]) / 3.0, noise, (bends[0], bends[1]))


def _norm_of_changed(above: list[np.ndarray], below: list[np.ndarray]) -> float:
    """The norm of outputs that differ: those that are equal are rounded equally, so that no error is left."""
    return float(np.sqrt(sum(np.square(a[a != b]).sum() for a, b in zip(above, below, strict=True))))


def sweep(
    probe: Probe, name: str, direction: np.ndarray, upstream: list[np.ndarray], here: list[float]
) -> tuple[float, float, float]:
    """The numerical gradient at the most stable of many step sizes -> its value, its error, that step.

    Large steps suffer from curvature and small ones from rounding. Between them, results at neighbouring steps
    agree; their difference is the error.
    """
    if probe.precision.eps > EPS:
        return _sweep_each_output(probe, name, direction, upstream)
    steps = probe.precision.sweep
    with np.errstate(all="ignore"):  # a large step may leave the function's domain
        gradients = np.array([numerical_gradient(probe, name, direction, upstream, s, here).numeric for s in steps])
        gaps = np.nan_to_num(np.abs(np.diff(gradients)), nan=np.inf)
    floor = np.maximum(gaps[:-1], gaps[1:])  # of a step and both its neighbours
    best = int(floor.argmin())
    return float(gradients[best + 1]), float(floor[best]), float(steps[best + 1])


def _sweep_each_output(
    probe: Probe, name: str, direction: np.ndarray, upstream: list[np.ndarray]
) -> tuple[float, float, float]:
    """`sweep` in float32, where one step cannot be small enough for a kink nearby and large enough for all else.

    Each output has a step of its own: the largest whose derivative agrees with those of all smaller steps, within their
    rounding (Lepski's rule). Across a kink large steps agree with each other, on the mean of both sides.
    """
    x, eps = probe.checked[name], probe.precision.eps
    steps = probe.precision.sweep * min(10.0, 1.0 / np.abs(direction).max())
    each_derivative, each_rounding = [], []
    with np.errstate(all="ignore"):  # a large step may leave the function's domain
        for h in steps:
            above, below = (
                np.concatenate([np.ravel(p) for p in probe.moved(name, x + s * direction, probe.products, upstream)])
                for s in (h, -h)
            )
            each_derivative.append((above - below) / (2.0 * h))
            each_rounding.append(
                np.where(above == below, 0.0, 4.0 * eps * np.maximum(np.abs(above), np.abs(below)) / h)
            )
        ratios = np.square(steps[:-1] / steps[1:])[:, None]
        derivatives = np.array(each_derivative)  # (steps, outputs), extrapolated as in `numerical_gradient`
        derivatives = (ratios * derivatives[1:] - derivatives[:-1]) / (ratios - 1.0)
        rounding = np.array(each_rounding[1:])
        best = np.full(derivatives.shape[1], len(rounding) - 1)
        low, high = derivatives[-1] - 2.0 * rounding[-1], derivatives[-1] + 2.0 * rounding[-1]
        for i in reversed(range(len(rounding) - 1)):
            low = np.maximum(low, derivatives[i] - 2.0 * rounding[i])
            high = np.minimum(high, derivatives[i] + 2.0 * rounding[i])
            best = np.where((low <= high) & (best == i + 1), i, best)
    gaps = np.abs(np.diff(derivatives, axis=0, append=derivatives[-1:]))  # to the next smaller step
    numeric, error = (np.take_along_axis(each, best[None], axis=0)[0] for each in (derivatives, rounding + gaps))
    return float(numeric.sum()), 2.0 * float(np.sqrt(np.square(error).sum())), float(np.median(steps[1:][best]))


class Sides(NamedTuple):
    """A kink along a direction.

    left, right   the one-sided derivatives
    low, high     the range of valid gradients: each output may take either side
    smooth        the upstream gradients, set to 0 for outputs with a kink
    """

    left: float
    right: float
    low: float
    high: float
    smooth: list[np.ndarray]


def kink(probe: Probe, name: str, direction: np.ndarray, upstream: list[np.ndarray], scale: float) -> Sides | None:
    """The kink along a direction; None if the function is smooth here.

    The gap between the two sides shrinks with the step where the function is smooth, and stays at a kink.
    """
    here, precision = probe.outputs(), probe.precision
    wide_step, step = precision.kink_steps
    left, right, wide = _one_sided(probe, name, direction, upstream, here, wide_step)
    left, right, gaps = _one_sided(probe, name, direction, upstream, here, step)
    rounding = 8.0 * precision.eps * np.abs(direction).max() / step
    noise = [rounding * np.abs(u * out) for u, out in zip(upstream, here, strict=True)]
    if precision.eps > EPS:  # outputs that stay as they are have no error, and may be many
        noise = [n * (g > 0.0) for n, g in zip(noise, gaps, strict=True)]
    kinked = [(g > 0.5 * w) & (g > 2.0 * n) for g, w, n in zip(gaps, wide, noise, strict=True)]
    total = _total(noise)
    if _total(g * k for g, k in zip(gaps, kinked, strict=True)) <= 1e-4 * scale + total:
        return None
    low = _total(np.minimum(x, y) for x, y in zip(left, right, strict=True)) - total
    high = _total(np.maximum(x, y) for x, y in zip(left, right, strict=True)) + total
    smooth = [np.where(k, 0.0, u) for k, u in zip(kinked, upstream, strict=True)]
    return Sides(_total(left), _total(right), low, high, smooth)


def _total(arrays: Iterable[np.ndarray]) -> float:
    return sum(float(array.sum()) for array in arrays)


def _one_sided(
    probe: Probe, name: str, direction: np.ndarray, upstream: list[np.ndarray], here: list[np.ndarray], step: float
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Per output element: the derivatives from the left and the right, and the gap between them; lists of arrays."""
    size = step / np.abs(direction).max()  # no element moves further than `step`
    x = probe.checked[name]
    below, above = (probe.moved(name, x + s * direction, probe.outputs) for s in (-size, size))
    left = [u * (c - b) / size for u, b, c in zip(upstream, below, here, strict=True)]
    right = [u * (a - c) / size for u, a, c in zip(upstream, above, here, strict=True)]
    return left, right, [np.abs(x - y) for x, y in zip(left, right, strict=True)]


def locate(
    probe: Probe,
    name: str,
    grad: np.ndarray,
    upstream: list[np.ndarray],
    here: list[float],
    tolerance: float,
    rng: np.random.Generator,
    most: int = 8,
) -> list[int]:
    """Flat indices of coordinates whose gradient is wrong, at most `most`, with about log2(n) measurements for each.

    Binary search: the error along a direction is the sum of the errors along its two halves, so one measurement
    gives both. The half with the larger error is searched first.
    """
    x, flat = probe.checked[name], grad.reshape(-1)
    step = probe.precision.step
    weights = rng.uniform(0.5, 1.5, x.size) * rng.choice([-1.0, 1.0], x.size)

    def error(start: int, stop: int) -> tuple[float, float]:
        direction = np.zeros(x.size)
        direction[start:stop] = weights[start:stop]
        measured = numerical_gradient(probe, name, direction.reshape(x.shape), upstream, step, here)
        return float(flat[start:stop] @ weights[start:stop]) - measured.numeric, measured.noise

    found: list[int] = []
    stack = [(0, x.size, error(0, x.size)[0])]
    while stack and len(found) < most:
        start, stop, total = stack.pop()
        if stop - start == 1:
            found.append(start)
            continue
        middle = (start + stop) // 2
        left, noise = error(start, middle)
        halves = [(start, middle, left), (middle, stop, total - left)]
        least = max(tolerance, 4.0 * noise, probe.precision.rtol * abs(total))
        # `not <=` keeps NaN too; the half with the larger error is pushed last, so it is searched first
        stack += sorted((half for half in halves if not abs(half[2]) <= least), key=lambda half: abs(half[2]))
    return found
