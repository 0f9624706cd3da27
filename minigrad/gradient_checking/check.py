"""The check of one function: `gradcheck`.

All arithmetic is float64. The output is multiplied with a random upstream gradient, so the check compares scalars;
an upstream gradient of ones would hide errors in softmax and layernorm, whose gradients then cancel. A failure is
explained by `failure_message`, which costs more than the check.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.gradient_checking.libraries import probe_of
from minigrad.gradient_checking.numerical_gradient import Kink, kink, numerical_gradient, sweep
from minigrad.gradient_checking.results import GradcheckError, GradcheckReport


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
    """Compare the gradients of `fn(*inputs)` with central differences.

    fn       a function of minigrad, PyTorch or JAX, or a pair (forward, vjp) of functions of plain arrays, NumPy's,
             CuPy's or any other's: vjp(dout, *inputs) returns a gradient for each input, None where there is none.
             Returns a tensor, or a list, tuple or dict of them; called often, must be deterministic
    inputs   arrays or tensors of one library, in a list, a tuple, or a dict of names; they may be nested. What is no
             array is passed on as it is. Checked are:
             minigrad   float arrays, as Tensors of float64; float64 Tensors that require a gradient. Such a Tensor is
                        handed to fn itself, so that the parameters of a module can be checked:
                        `gradcheck(lambda *_: model(ids, targets), dict(model.named_parameters()))`
             PyTorch    tensors that require a gradient; they too are handed to fn themselves
             JAX, pairs all arrays of floating-point numbers
             PyTorch, JAX and pairs compute in the dtype of their inputs: float64, or with less certainty float32
    rtol     tolerance on |analytic - numeric|, relative to the norm of the gradient in the checked direction; 1e-6,
             and 1e-3 in float32
    step     of the differences, times max(1, |x|); two steps are combined, so the error is of order step**4; 1e-3, and
             1e-2 in float32
    device   for minigrad: "cuda" or "cuda-sim": the Tensors passed to fn are moved there; other arrays that fn uses are
             not

    An input of at most max_coordinates elements is checked in every coordinate, a larger one in n_directions
    random directions. Where these disagree, the numerical gradient is computed again with many steps. A point where
    the one-sided derivatives differ is listed in the report's `kinks`; it fails only if the gradient lies outside
    of their range. Returns a GradcheckReport. Raises GradcheckError naming the input, the coordinates,
    both values, the noise and the likely cause, also if fn is not deterministic, if a backward function changes
    its arguments, or if no gradient leads from the outputs to the inputs; and TypeError for an input or output that
    cannot be checked. No input is changed.
    """
    probe = probe_of(fn, inputs, device)
    rtol, step = probe.precision.rtol if rtol is None else rtol, probe.precision.step if step is None else step
    rng = np.random.default_rng([seed, 0x47524144])  # inputs made by default_rng(seed) must not be upstream too
    with probe.own_memory():
        upstream, grads = _analytic(probe, rng)
        here = _values_here(probe, upstream)
        _require_a_link(probe)
        errors: dict[str, float] = {}
        noise: dict[str, float] = {}
        kinks: list[Kink] = []
        for name, x in probe.checked.items():
            directions = _directions(x, max_coordinates, n_directions, rng)
            check = _InputCheck(probe, name, grads, upstream, here, rtol, step)
            errors[name] = check.run(directions, rng)
            noise[name], kinks = check.noise, kinks + check.kinks
    return GradcheckReport(errors, tuple(kinks), noise)


def _analytic(probe, rng):
    """(a random upstream gradient per output, {name: gradient}). Backward runs twice and must give the same."""
    upstream = [rng.standard_normal(out.shape) for out in probe.outputs()]
    grads, again = probe.pull([upstream, upstream])
    probe.refuse_changed_inputs()
    for name in probe.checked:
        with np.errstate(invalid="ignore"):  # NaN passes here; the check of its coordinate reports it
            allowed = probe.precision.same_bits * np.abs(grads[name]).max(initial=0.0)
            same = not np.abs(grads[name] - again[name]).max(initial=0.0) > allowed
        if not same:
            raise GradcheckError(
                f"the gradient of {name} differs between two backward passes through the same graph: "
                "a backward function is not deterministic",
                input=name, cause="nondeterministic",
            )  # fmt: skip
    return upstream, grads


def _values_here(probe, upstream):
    with np.errstate(invalid="ignore"):
        products = probe.products(upstream)
    if not all(np.isfinite(product).all() for product in products):
        raise GradcheckError("fn's output holds NaN or infinity: there is no numerical gradient", cause="not finite")
    here = [float(product.sum()) for product in products]
    rounding = 0.0 if probe.has_same_bits else 10.0 * probe.precision.eps
    for value, again, product in zip(here, probe.values(upstream), products, strict=True):
        if not abs(value - again) <= rounding * np.abs(product).sum():
            raise GradcheckError(
                "fn gave two different results for the same inputs: it is not deterministic", cause="nondeterministic"
            )
    return here


def _require_a_link(probe):
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


def _directions(x, max_coordinates, n_directions, rng):
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


class _InputCheck:
    """The check of one input: all its directions, then more measurements along those that disagree."""

    def __init__(self, probe, name, grads, upstream, here, rtol, step):
        self.probe, self.name, self.x = probe, name, probe.checked[name]
        self.grads, self.grad, self.upstream, self.here = grads, grads[name], upstream, here
        self.rtol, self.step = rtol, step
        self.kinks, self.kinked = [], []  # for the report; flat indices
        self.noise = 0.0

    def run(self, directions, rng):
        """The largest error relative to the gradient's size. Raises GradcheckError."""
        rows = [(label, direction, *self.gradients_along(direction)) for label, direction in directions]
        if not rows:
            return 0.0
        # the root mean square of the gradient along these directions
        self.scale = float(np.sqrt(np.mean([max(abs(a), abs(m.numeric)) ** 2 for _, _, a, m in rows])))
        self.noise = max(m.noise for _, _, _, m in rows) / self.scale if self.scale else 0.0
        worst, wrong = 0.0, []
        for label, direction, analytic, measured in rows:
            error, tolerance = abs(analytic - measured.numeric), self.rtol * self.scale + measured.noise
            bent = self._bent(measured)
            if not error <= tolerance or bent:  # also when either is NaN
                error = self._closer(label, direction, analytic, error <= tolerance, error)
            if error is None:
                wrong.append((label, direction, analytic, measured))
            else:
                worst = max(worst, error / self.scale if self.scale > measured.noise else 0.0)
        if wrong:
            from minigrad.gradient_checking.failure_message import failure  # only a failure pays for it

            raise failure(self, wrong, len(rows), rng)
        return worst

    def gradients_along(self, direction):
        """(analytic, NumericalGradient) along one direction."""
        measured = numerical_gradient(self.probe, self.name, direction, self.upstream, self.step, self.here)
        return float((self.grad * direction).sum()), measured

    def _bent(self, measured):
        """Whether the gap between the two sides does not shrink with the step, as at a kink."""
        wide, narrow = measured.bends
        return narrow > 0.9 * wide and narrow > 1e-3 * self.scale + 100.0 * measured.noise

    def _closer(self, label, direction, analytic, passed, error):
        """The error by more measurements, or None if the gradient is wrong. A kink is recorded and is no error."""
        sides = kink(self.probe, self.name, direction, self.upstream, self.scale)
        if sides:
            left, right, low, high, smooth = sides
            slack = self.rtol * self.scale
            if not low - slack <= analytic <= high + slack:
                return None
            if any(u.any() for u in smooth) and not self._agrees(direction, smooth):
                return None  # wrong at the outputs without a kink
            self._note(label, direction, left, right, analytic)
            return 0.0
        if passed:
            return error
        numeric, noise, _ = sweep(self.probe, self.name, direction, self.upstream, self.here)
        error = abs(analytic - numeric)
        # noise explains a difference only where it is small itself
        if error <= self.rtol * self.scale + noise and noise <= self.probe.precision.steady * self.scale:
            self._note_near_kink(label, direction, analytic)
            return error
        return None

    def _agrees(self, direction, upstream):
        """Whether the gradient is right for these upstream gradients."""
        (grads,) = self.probe.pull([upstream])
        numeric, noise, _ = sweep(self.probe, self.name, direction, upstream, self.probe.values(upstream))
        error = abs(float((grads[self.name] * direction).sum()) - numeric)
        return error <= self.rtol * self.scale + noise and noise <= self.probe.precision.steady * self.scale

    def _note(self, label, direction, left, right, analytic):
        self.kinks.append(Kink(self.name, label, left, right, analytic))
        if np.count_nonzero(direction) == 1:
            self.kinked.append(int(np.flatnonzero(direction)[0]))

    def _note_near_kink(self, label, direction, analytic):
        """The gradient agrees at smaller steps only: record a kink within `step`, unless it is curvature."""
        wide = numerical_gradient(self.probe, self.name, direction, self.upstream, self.step, self.here).bends[0]
        narrow = numerical_gradient(self.probe, self.name, direction, self.upstream, 1e-2 * self.step, self.here)
        as_if_curved = 100.0 * narrow.bends[0]
        if abs(wide - as_if_curved) > 0.9 * max(wide, as_if_curved) and wide > 100.0 * narrow.noise:
            self._note(f"{label}, within {self.step:g}", direction, analytic, analytic, analytic)
