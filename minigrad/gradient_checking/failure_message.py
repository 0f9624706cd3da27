"""The message of a failed check: which coordinates are wrong, the error of the measurement, and the likely cause."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minigrad.argument_types import Shape
from minigrad.gradient_checking.likely_causes import WEAKEST, Evidence, are_close, likely_cause
from minigrad.gradient_checking.numerical_gradient import locate, sweep
from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.results import GradcheckError

if TYPE_CHECKING:
    from minigrad.gradient_checking.check import InputCheck, Row

_LISTED = 5  # coordinates named in a message
_SAMPLE = 40  # coordinates of a large input that are compared besides the wrong ones
_OUTPUTS = 256  # outputs for which a row of the Jacobian is computed by backward
_NUMBERS = 2e7  # elements of a matrix of outputs x coordinates


def failure(check: "InputCheck", wrong: "list[Row]", n_rows: int, rng: np.random.Generator) -> GradcheckError:
    """The GradcheckError for an input. wrong: the rows that disagree, of n_rows."""
    x = check.x
    exact = n_rows == x.size and np.count_nonzero(wrong[0][1]) == 1
    if exact:
        indices = [int(np.flatnonzero(direction)[0]) for _, direction, *_ in wrong]
        label, direction, analytic, measured = max(wrong, key=lambda row: abs(row[2] - row[3].numeric))
    else:
        tolerance = check.rtol * float(np.sqrt(np.mean(np.square(check.grad)))) if np.isfinite(check.grad).all() else 0
        indices = locate(check.probe, check.name, check.grad, check.upstream, check.here, tolerance, rng)
        label, direction, analytic, measured = wrong[0]
        if indices:
            direction = _unit(x, indices[0])
            analytic, measured = check.gradients_along(direction)
            label = f"index {_index(x, indices[0])}, found from {label}"
    steady, floor, best_step = sweep(check.probe, check.name, direction, check.upstream, check.here)
    numeric = steady if floor < abs(steady - analytic) else measured.numeric
    scale = check.scale if exact else max(abs(analytic), abs(numeric))
    tolerance = check.rtol * scale + measured.noise
    cause, sentence = _cause(check, indices)
    coordinates = tuple(_index(x, i) for i in indices)
    lines = [
        f"{check.name}, {label}: analytic {analytic:.10g}, numeric {numeric:.10g}, "
        f"difference {abs(analytic - numeric):.3g}, tolerance {tolerance:.3g} (shape {x.shape})"
    ]
    if coordinates:
        named = ", ".join(map(str, coordinates[:_LISTED])) + (" ..." if len(coordinates) > _LISTED else "")
        count = f"{len(indices)} of {x.size}" if exact else f"at least {len(indices)} of {x.size}"
        lines.append(f"  wrong: {count} coordinates: {named}")
    lines.append(f"  noise: the numerical gradient is accurate to {floor:.2g}, best at a step of {best_step:g}")
    lines.append(f"  likely cause: {sentence}")
    index = coordinates[indices.index(int(np.argmax(direction)))] if coordinates else None
    return GradcheckError(
        "\n".join(lines), input=check.name, index=index, coordinates=coordinates, analytic=analytic, numeric=numeric,
        tolerance=tolerance, noise=floor, cause=cause,
    )  # fmt: skip


def _cause(check: "InputCheck", indices: list[int]) -> tuple[str | None, str]:
    """(short name or None, a sentence) from the first input whose error shows a pattern, beginning with this one."""
    here = _evidence(check, check.name, indices)
    sizes = {name: x.size for name, x in check.probe.checked.items() if name != check.name}
    # the wrong coordinates of a large input are not known
    there = {name: _evidence(check, name, range(size)) for name, size in sizes.items() if size <= 200}
    for name, other in there.items():
        if other.shape == here.shape and are_close(here, here.gradient.reshape(-1), other.numeric):
            if are_close(here, other.gradient.reshape(-1)[here.sample], here.numeric):
                return "inputs swapped", f"this is the gradient of {name}: backward returns them in another order"
            return "wrong operand", f"this is the gradient of {name}: backward forms both from the same operand"
    cause, sentence = likely_cause(here)
    if cause in (None, WEAKEST):
        for name, other in there.items():
            other_cause, other_sentence = likely_cause(other) if other.wrong.any() else (None, "")
            if other_cause not in (None, WEAKEST):
                return other_cause, f"{other_sentence} (seen in {name}, whose gradient is wrong too)"
    return cause, sentence


def _evidence(check: "InputCheck", name: str, indices: Sequence[int]) -> Evidence:
    """The Evidence for one input, at a sample of its coordinates: the wrong ones first, then random ones."""
    probe, x, grad = check.probe, check.probe.checked[name], check.grads[name]
    outs = probe.outputs()
    shapes = [out.shape for out in outs]
    upstream = np.concatenate([np.ravel(u) for u in check.upstream])
    most = int(_NUMBERS / upstream.size)
    sample = _sampled(x.shape, list(indices), most)
    if name == check.name:
        sample = np.setdiff1d(sample, check.kinked)
    jacobian = np.stack([_column(probe, name, _unit(x, i)) for i in sample], axis=1)  # (outputs, sample)
    numeric = jacobian.T @ upstream
    analytic = grad.reshape(-1)[sample]
    size = max(np.abs(numeric).max(initial=0.0), np.abs(analytic[np.isfinite(analytic)]).max(initial=0.0))
    wrong = ~(np.abs(analytic - numeric) <= max(check.rtol, 1e-7) * size)

    def pull(upstreams: Iterable[np.ndarray]) -> np.ndarray:
        """Gradients at the sample for flat upstream gradients, a row each."""
        parts = (_split(u, shapes) for u in upstreams)  # one at a time: each may be large
        return np.stack([grads[name].reshape(-1)[sample] for grads in probe.pull(parts)])

    along = None  # the outputs' change along upstream, where that has the input's shape: a transposed gradient
    if shapes == [x.shape]:
        along = _column(probe, name, check.upstream[0])
    chosen = np.arange(upstream.size)
    if upstream.size > _OUTPUTS:  # those that depend on the sample
        chosen = np.sort(np.argsort(np.abs(jacobian[:, wrong]).sum(axis=1))[-min(_OUTPUTS, max(most, 24)) :])
    return Evidence(
        shape=x.shape, out_shapes=shapes, out_paths=list(probe.paths), sample=sample, gradient=grad,
        analytic=analytic, numeric=numeric, wrong=wrong, jacobian=jacobian, upstream=upstream, chosen=chosen,
        pull=pull, along=along,
        arrays=probe.checked | {"the output": outs[0]}, sizes=_sizes([*probe.input_shapes(), *shapes]),
        close=probe.precision.close,
    )  # fmt: skip


def _sampled(shape: Shape, wrong: list[int], most: int) -> np.ndarray:
    """Flat indices to look at: the wrong ones, the lines through the first of them, and some others; at most `most`."""
    size = int(np.prod(shape))
    if size <= 200:
        return np.array([*wrong, *np.setdiff1d(np.arange(size), wrong)], dtype=np.int64)
    sample = list(wrong)
    for axis in reversed(range(len(shape)) if wrong else ()):  # sums along a line tell of a mean that was not taken off
        line = np.arange(size).reshape(shape)[tuple(
            slice(None) if i == axis else at for i, at in enumerate(np.unravel_index(wrong[0], shape))
        )]  # fmt: skip
        if len(sample) + len(line) <= min(most, 200):
            sample += np.setdiff1d(line, sample).tolist()
    others = np.random.default_rng(0).integers(0, size, min(_SAMPLE, max(most - len(sample), 4)))
    return np.array([*sample, *np.setdiff1d(others, sample)], dtype=np.int64)


def _column(probe: Probe, name: str, direction: np.ndarray) -> np.ndarray:
    """The derivatives of all outputs along a direction, flat; with smaller steps where two disagree, as at a kink."""
    x, precision = probe.checked[name], probe.precision
    for h in precision.column_steps:
        differences = []
        for size in (h, 0.5 * h):
            with np.errstate(all="ignore"):  # a step may leave the function's domain
                above, below = (probe.moved(name, x + s * direction, probe.outputs) for s in (size, -size))
                change = np.concatenate([np.ravel(a - b) for a, b in zip(above, below, strict=True)])
            differences.append(change / (2.0 * size))
        wide, narrow = differences
        if np.abs(wide - narrow).max(initial=0.0) <= max(1e-3, precision.close) * np.abs(narrow).max(initial=0.0):
            break
    return (4.0 * narrow - wide) / 3.0


def _split(flat: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]


def _sizes(shapes: list[Shape]) -> set[int]:
    """Lengths of axes, and products of neighbouring ones: the numbers that a mean may divide by."""
    spans = ((s, i, j) for s in shapes for i in range(len(s)) for j in range(i + 1, len(s) + 1))
    return {int(np.prod(s[i:j])) for s, i, j in spans}


def _unit(x: np.ndarray, flat_index: int) -> np.ndarray:
    direction = np.zeros(x.shape)
    direction.flat[flat_index] = 1.0
    return direction


def _index(x: np.ndarray, flat_index: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat_index, x.shape))
