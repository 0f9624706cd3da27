"""The check of one function: `gradcheck`.

All arithmetic is float64. The output is multiplied with a random upstream gradient, so the check compares scalars;
an upstream gradient of ones would hide errors in softmax and layernorm, whose gradients then cancel. A failure is
explained by `failure_message`, which costs more than the check.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minigrad.gradient_checking.libraries import probe_of
from minigrad.gradient_checking.numerical_gradient import NumericalGradient, kink, numerical_gradient, sweep
from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.results import GradcheckError, GradcheckReport, Kink


def gradcheck(
    fn: Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]],
    inputs: Any,
    *,
    rtol: float | None = None,
    step: float | None = None,
    max_coordinates: int = 200,
    n_directions: int = 8,
    seed: int = 0,
    device: str = "cpu",
) -> GradcheckReport:
    """Compare the gradients of `fn(*inputs)` with central differences; docs/gradcheck.md has an example of each kind.

    fn       a function of minigrad, PyTorch or JAX, or a pair (forward, vjp) of functions of plain arrays, where
             vjp(dout, *inputs) returns a gradient for each input, None where there is none. It returns a tensor, or a
             list, tuple or dict of them. It is called often, with numbers near the inputs, and must be deterministic
    inputs   arrays or tensors of one library in a list, a tuple or a dict of names; nested ones too. What is no array
             is passed on as it is. Checked are, in the dtype they have, float64 or with less certainty float32:
             minigrad    float arrays, as Tensors of float64; float64 Tensors that require a gradient
             PyTorch     tensors that require a gradient; these, and minigrad's Tensors, are handed to fn themselves
             JAX, pairs  all arrays of floating-point numbers
    rtol     tolerance on |analytic - numeric|, relative to the norm of the gradient in the checked direction; 1e-6,
             and 1e-3 in float32
    step     of the differences, times max(1, |x|); two steps are combined, so the error is of order step**4; 1e-3, and
             1e-2 in float32
    device   for minigrad: "cuda" or "cuda-sim": the Tensors passed to fn are moved there

    An input of at most max_coordinates elements is checked in every coordinate, a larger one in n_directions
    random directions. A point where the one-sided derivatives differ is listed in the report's `kinks`; it fails only
    if the gradient lies outside of their range. No input is changed.
    Raises GradcheckError for a wrong gradient, naming the input, the coordinates, both values, the noise and the
    likely cause, and for a function or backward function whose gradient cannot be right (not deterministic, detached,
    writing into its arguments); TypeError for an input or output that cannot be checked.
    """
    probe = probe_of(fn, inputs, device)
    rng = np.random.default_rng([seed, 0x47524144])  # inputs made by default_rng(seed) must not be upstream too
    with probe.own_memory():
        upstream = [rng.standard_normal(out.shape) for out in probe.outputs()]
        here = _sums_here(probe, upstream)
        grads = _analytic(probe, upstream)
        _require_a_link(probe)
        checks = [InputCheck(probe, name, grads, upstream, here, rtol, step) for name in probe.checked]
        errors = {check.name: check.run(max_coordinates, n_directions, rng) for check in checks}
    kinks = tuple(kink for check in checks for kink in check.kinks)
    return GradcheckReport(errors, kinks, {check.name: check.noise for check in checks})


def _sums_here(probe: Probe, upstream: list[np.ndarray]) -> list[float]:
    """The sum of each output times its upstream gradient. GradcheckError if a second call gives another."""
    with np.errstate(invalid="ignore"):
        products = probe.products(upstream)
    probe.refuse_changed_inputs()
    if not all(np.isfinite(product).all() for product in products):
        raise GradcheckError("fn's output holds NaN or infinity: there is no numerical gradient", cause="not finite")
    here = [float(product.sum()) for product in products]
    rounding = 0.0 if probe.has_same_bits else 10.0 * probe.precision.eps
    for value, again, product in zip(here, probe.sums(upstream), products, strict=True):
        if not abs(value - again) <= rounding * np.abs(product).sum():
            raise GradcheckError(
                "fn gave two different results for the same inputs: it is not deterministic", cause="nondeterministic"
            )
    return here


def _analytic(probe: Probe, upstream: list[np.ndarray]) -> dict[str, np.ndarray]:
    """{name: gradient by backward}. Backward runs twice and must give the same."""
    grads, again = probe.pull([upstream, upstream])
    probe.refuse_changed_inputs()
    for name in probe.checked:
        with np.errstate(invalid="ignore"):  # NaN passes here; the check of its coordinate reports it
            allowed = probe.precision.same_bits * np.abs(grads[name]).max(initial=0.0)
            same = not np.abs(grads[name] - again[name]).max(initial=0.0) > allowed
        if not same:
            raise GradcheckError(
                f"the gradient of {name} differs between two backward passes through the same graph: a backward "
                "function is not deterministic, or changes what was saved for it",
                input=name, cause="nondeterministic",
            )  # fmt: skip
    return grads


def _require_a_link(probe: Probe) -> None:
    """GradcheckError if the outputs do not depend on the inputs, or do so past the library's graph."""
    if probe.linked and not probe.detached:
        return
    changes = probe.changes(np.random.default_rng(0))
    lost = [path for path, change in zip(probe.paths, changes, strict=True) if change and path in probe.detached]
    if lost:
        raise GradcheckError(
            f"fn's output{lost[0]} changes with the inputs, but no graph of {probe.arrays.library}'s leads from it to "
            "them: it was detached, or computed without the library; if that is meant, return the other outputs alone",
            cause="detached",
        )
    if not probe.linked and not any(changes) and any(x.size for x in probe.checked.values()):
        raise GradcheckError(
            f"fn's outputs do not depend on any input that is checked ({', '.join(probe.checked)})", cause="independent"
        )


class Row(NamedTuple):
    """The gradient along one direction, by backward and as it was measured."""

    label: str
    direction: np.ndarray
    analytic: float
    measured: NumericalGradient


class InputCheck:
    """The check of one input: all its directions, then more measurements along those that disagree."""

    def __init__(
        self,
        probe: Probe,
        name: str,
        grads: dict[str, np.ndarray],
        upstream: list[np.ndarray],
        here: list[float],
        rtol: float | None,
        step: float | None,
    ) -> None:
        self.probe, self.name, self.x = probe, name, probe.checked[name]
        self.grads, self.grad, self.upstream, self.here = grads, grads[name], upstream, here
        self.rtol = probe.precision.rtol if rtol is None else rtol
        self.step = probe.precision.step if step is None else step
        self.kinks: list[Kink] = []  # for the report
        self.kinked: list[int] = []  # flat indices
        self.noise = self.scale = 0.0

    def run(self, max_coordinates: int, n_directions: int, rng: np.random.Generator) -> float:
        """The largest error relative to the gradient's size. Raises GradcheckError."""
        directions = _directions(self.x, max_coordinates, n_directions, rng)
        rows = [Row(label, direction, *self.gradients_along(direction)) for label, direction in directions]
        if not rows:
            return 0.0
        # the root mean square of the gradient along these directions
        self.scale = float(np.sqrt(np.mean([max(abs(row.analytic), abs(row.measured.numeric)) ** 2 for row in rows])))
        self.noise = max(row.measured.noise for row in rows) / self.scale if self.scale else 0.0
        errors = [self._error(row) for row in rows]
        wrong = [row for row, error in zip(rows, errors, strict=True) if error is None]
        if wrong:
            from minigrad.gradient_checking.failure_message import failure  # only a failure pays for it

            raise failure(self, wrong, len(rows), rng)
        self._refuse_lost_digits()
        return max(error for error in errors if error is not None)

    def gradients_along(self, direction: np.ndarray) -> tuple[float, NumericalGradient]:
        """The gradient along one direction, analytic and numerical."""
        measured = numerical_gradient(self.probe, self.name, direction, self.upstream, self.step, self.here)
        return float((self.grad * direction).sum()), measured

    def _error(self, row: Row) -> float | None:
        """The relative error along a direction, or None if the gradient is wrong there."""
        measured = row.measured
        difference = abs(row.analytic - measured.numeric)
        passed = difference <= self.rtol * self.scale + measured.noise
        # also when either is NaN
        error = difference if passed and not self._bent(measured) else self._closer(row, passed)
        if error is None:
            return None
        return error / self.scale if self.scale > measured.noise else 0.0

    def _bent(self, measured: NumericalGradient) -> bool:
        """Whether the gap between the two sides does not shrink with the step, as at a kink."""
        wide, narrow = measured.bends
        return narrow > 0.9 * wide and narrow > 1e-3 * self.scale + 100.0 * measured.noise

    def _closer(self, row: Row, passed: bool) -> float | None:
        """The error by more measurements, or None if the gradient is wrong. A kink is recorded and is no error."""
        sides = kink(self.probe, self.name, row.direction, self.upstream, self.scale)
        if sides:
            slack = self.rtol * self.scale
            if not sides.low - slack <= row.analytic <= sides.high + slack:
                return None
            if any(u.any() for u in sides.smooth) and not self._agrees(row.direction, sides.smooth):
                return None  # wrong at the outputs without a kink
            self._note(row, row.label, sides.left, sides.right)
            return 0.0
        if passed:
            return abs(row.analytic - row.measured.numeric)
        numeric, noise, _ = sweep(self.probe, self.name, row.direction, self.upstream, self.here)
        error = abs(row.analytic - numeric)
        if not self._explains(error, noise):
            return None
        self._note_near_kink(row)
        return error

    def _explains(self, error: float, noise: float) -> bool:
        """Whether the noise of a measurement explains an error; it does so only where it is small itself."""
        return error <= self.rtol * self.scale + noise and noise <= self.probe.precision.steady * self.scale

    def _agrees(self, direction: np.ndarray, upstream: list[np.ndarray]) -> bool:
        """Whether the gradient is right for these upstream gradients."""
        (grads,) = self.probe.pull([upstream])
        numeric, noise, _ = sweep(self.probe, self.name, direction, upstream, self.probe.sums(upstream))
        return self._explains(abs(float((grads[self.name] * direction).sum()) - numeric), noise)

    def _note(self, row: Row, label: str, left: float, right: float) -> None:
        self.kinks.append(Kink(self.name, label, left, right, row.analytic))
        if np.count_nonzero(row.direction) == 1:
            self.kinked.append(int(np.flatnonzero(row.direction)[0]))

    def _note_near_kink(self, row: Row) -> None:
        """The gradient agrees at smaller steps only: record a kink within `step`, unless it is curvature."""
        along = self.probe, self.name, row.direction, self.upstream
        wide = numerical_gradient(*along, self.step, self.here).bends[0]
        narrow = numerical_gradient(*along, 1e-2 * self.step, self.here)
        as_if_curved = 100.0 * narrow.bends[0]
        if abs(wide - as_if_curved) > 0.9 * max(wide, as_if_curved) and wide > 100.0 * narrow.noise:
            self._note(row, f"{row.label}, within {self.step:g}", row.analytic, row.analytic)

    def _refuse_lost_digits(self) -> None:
        """GradcheckError for a right gradient whose numbers all fit into a narrower dtype, as if it had been cast.

        The upstream gradient is random, so that right ones do not.
        """
        narrower = self.probe.precision.narrower
        with np.errstate(over="ignore"):
            fits = np.array_equal(self.grad, self.grad.astype(narrower))
        if fits and np.unique(np.abs(self.grad[self.grad != 0.0])).size > 1:
            raise GradcheckError(
                f"the gradient of {self.name} has the digits of {narrower.__name__} alone: backward computes in "
                f"{narrower.__name__}, though the input is {self.probe.dtype}",
                input=self.name, cause="dtype",
            )  # fmt: skip


def _directions(
    x: np.ndarray, max_coordinates: int, n_directions: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """(label, direction) pairs: unit vectors for a small array, random ones of length 1 for a large one."""
    if x.size <= max_coordinates:
        for index in np.ndindex(x.shape):
            direction = np.zeros_like(x)
            direction[index] = 1.0
            yield f"index {index}", direction
    else:
        for i in range(n_directions):
            direction = rng.standard_normal(x.shape)
            yield f"random direction {i}", direction / np.linalg.norm(direction)
