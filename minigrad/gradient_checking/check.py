"""The check of one function: `gradcheck`.

All arithmetic is float64. The output is multiplied with a random upstream gradient, so the check compares scalars;
an upstream gradient of ones would hide errors in softmax and layernorm, whose gradients then cancel. A failure is
explained by `failure_message`, which costs more than the check.
"""

import numpy as np

from minigrad.gradient_checking.numerical_gradient import Kink, Probe, kink, numerical_gradient, sweep
from minigrad.gradient_checking.on_device import on_device
from minigrad.gradient_checking.results import GradcheckError, GradcheckReport


def gradcheck(fn, inputs, *, rtol=1e-6, step=1e-3, max_coordinates=200, n_directions=8, seed=0, device="cpu"):
    """Compare the gradients of `fn(*inputs)` with central differences.

    fn       returns a Tensor, or a list of Tensors; called often, must be deterministic
    inputs   arrays or Tensors, in a list or a dict of names. Float arrays are checked in float64, integer
             arrays are passed on. A float64 Tensor is handed to fn itself, so that the parameters of a
             module can be checked: `gradcheck(lambda *_: model(ids, targets), dict(model.named_parameters()))`
    rtol     tolerance on |analytic - numeric|, relative to the norm of the gradient in the checked direction
    device   "cuda" or "cuda-sim": the Tensors passed to fn are moved there; other arrays that fn uses are not
    step     of the differences, times max(1, |x|); two steps are combined, so the error is of order step**4

    An input of at most max_coordinates elements is checked in every coordinate, a larger one in n_directions
    random directions. Where these disagree, the numerical gradient is computed again with many steps. A point where
    the one-sided derivatives differ is listed in the report's `kinks`; it fails only if the gradient lies outside
    of their range. Returns a GradcheckReport. Raises GradcheckError naming the input, the coordinates,
    both values, the noise and the likely cause, also if fn is not deterministic, or if a backward function changes
    its arguments; and TypeError for an input or output that is not float64.
    """
    named = inputs if isinstance(inputs, dict) else {f"input {i}": x for i, x in enumerate(inputs)}
    probe = Probe(fn if device == "cpu" else on_device(fn, device), named)
    if not probe.checked:
        raise TypeError("nothing to check: no input is a float array or a float64 Tensor that requires a gradient")
    rng = np.random.default_rng([seed, 0x47524144])  # inputs made by default_rng(seed) must not be upstream too
    upstream, grads = _analytic(probe, rng)
    here = _values_here(probe, upstream)
    errors, kinks = {}, []
    for name, tensor in probe.checked.items():
        directions = _directions(tensor.data, max_coordinates, n_directions, rng)
        check = _InputCheck(probe, name, grads, upstream, here, rtol, step)
        errors[name] = check.run(directions, rng)
        kinks += check.kinks
    return GradcheckReport(errors, tuple(kinks))


def _analytic(probe, rng):
    """(a random upstream gradient per output, {name: gradient}). Backward runs twice and must give the same."""
    before = {name: tensor.data.tobytes() for name, tensor in probe.checked.items()}
    upstream = []

    def drawn(shapes):
        upstream[:] = [rng.standard_normal(shape) for shape in shapes]
        return [upstream, upstream]

    grads, again = probe.pull(drawn)
    for name, tensor in probe.checked.items():
        if tensor.data.tobytes() != before[name]:
            raise GradcheckError(f"fn changed {name}, its own input", input=name, cause="modifies inputs")
        with np.errstate(invalid="ignore"):  # NaN passes here; the check of its coordinate reports it
            same = not np.abs(grads[name] - again[name]).max(initial=0.0) > 1e-9 * np.abs(grads[name]).max(initial=0.0)
        if not same:
            raise GradcheckError(
                f"the gradient of {name} differs between two backward passes through the same graph: "
                "a backward function is not deterministic",
                input=name, cause="nondeterministic",
            )  # fmt: skip
    return upstream, grads


def _values_here(probe, upstream):
    with np.errstate(invalid="ignore"):
        here = probe.values(upstream)
    if not np.isfinite(here).all():
        raise GradcheckError("fn's output holds NaN or infinity: there is no numerical gradient", cause="not finite")
    if here != probe.values(upstream):
        raise GradcheckError(
            "fn gave two different results for the same inputs: it is not deterministic", cause="nondeterministic"
        )
    return here


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
        self.probe, self.name, self.tensor = probe, name, probe.checked[name]
        self.grads, self.grad, self.upstream, self.here = grads, grads[name], upstream, here
        self.rtol, self.step = rtol, step
        self.kinks, self.kinked = [], []  # for the report; flat indices

    def run(self, directions, rng):
        """The largest error relative to the gradient's size. Raises GradcheckError."""
        rows = [(label, direction, *self.gradients_along(direction)) for label, direction in directions]
        if not rows:
            return 0.0
        # the root mean square of the gradient along these directions
        self.scale = float(np.sqrt(np.mean([max(abs(a), abs(m.numeric)) ** 2 for _, _, a, m in rows])))
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
        measured = numerical_gradient(self.probe, self.tensor, direction, self.upstream, self.step, self.here)
        return float((self.grad * direction).sum()), measured

    def _bent(self, measured):
        """Whether the gap between the two sides does not shrink with the step, as at a kink."""
        wide, narrow = measured.bends
        return narrow > 0.9 * wide and narrow > 1e-3 * self.scale + 100.0 * measured.noise

    def _closer(self, label, direction, analytic, passed, error):
        """The error by more measurements, or None if the gradient is wrong. A kink is recorded and is no error."""
        sides = kink(self.probe, self.tensor, direction, self.upstream, self.scale)
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
        numeric, noise, _ = sweep(self.probe, self.tensor, direction, self.upstream, self.here)
        error = abs(analytic - numeric)
        # noise explains a difference only where it is small itself
        if error <= self.rtol * self.scale + noise and noise <= 1e-4 * self.scale:
            self._note_near_kink(label, direction, analytic)
            return error
        return None

    def _agrees(self, direction, upstream):
        """Whether the gradient is right for these upstream gradients."""
        (grads,) = self.probe.pull([upstream])
        numeric, noise, _ = sweep(self.probe, self.tensor, direction, upstream, self.probe.values(upstream))
        error = abs(float((grads[self.name] * direction).sum()) - numeric)
        return error <= self.rtol * self.scale + noise and noise <= 1e-4 * self.scale

    def _note(self, label, direction, left, right, analytic):
        self.kinks.append(Kink(self.name, label, left, right, analytic))
        if np.count_nonzero(direction) == 1:
            self.kinked.append(int(np.flatnonzero(direction)[0]))

    def _note_near_kink(self, label, direction, analytic):
        """The gradient agrees at smaller steps only: record a kink within `step`, unless it is curvature."""
        wide = numerical_gradient(self.probe, self.tensor, direction, self.upstream, self.step, self.here).bends[0]
        narrow = numerical_gradient(self.probe, self.tensor, direction, self.upstream, 1e-2 * self.step, self.here)
        as_if_curved = 100.0 * narrow.bends[0]
        if abs(wide - as_if_curved) > 0.9 * max(wide, as_if_curved) and wide > 100.0 * narrow.noise:
            self._note(f"{label}, within {self.step:g}", direction, analytic, analytic, analytic)
