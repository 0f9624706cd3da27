"""Gradient checks: the gradient that backward gives, against the slope that is measured.

    minigrad.gradcheck(lambda x, w: my_op(x, w), {"x": x, "w": w})

Everything happens in float64. The output is multiplied with a random upstream gradient (all ones would hide
errors in softmax and layernorm, whose gradients cancel then), so the check compares scalars.
"""

from dataclasses import dataclass

import numpy as np

from minigrad.graph import no_grad
from minigrad.tensor import Tensor

_EPS = np.finfo(np.float64).eps


class GradcheckError(AssertionError):
    """A gradient that differs from the measured slope by more than the tolerance."""


@dataclass(frozen=True)
class GradcheckReport:
    """Largest error of each input, relative to the size of its gradient."""

    errors: dict[str, float]

    @property
    def largest(self):
        return max(self.errors.values(), default=0.0)


def gradcheck(fn, inputs, *, rtol=1e-6, step=1e-3, max_coordinates=200, n_directions=8, seed=0):
    """Compare the gradients of `fn(*inputs)` with central differences.

    fn       returns a Tensor, or a list of Tensors; called often, must be deterministic
    inputs   arrays or Tensors, in a list or a dict of names. Float arrays are checked in float64, integer
             arrays are passed on. A float64 Tensor is handed to fn itself, so that the parameters of a
             module can be checked: `gradcheck(lambda *_: model.loss(ids, targets), dict(model.named_parameters()))`
    rtol     tolerance on |analytic - numeric|, relative to the gradient's norm in the direction looked at
    step     of the differences, times max(1, |x|); two steps are combined, so the error is of order step**4

    An input of at most max_coordinates elements is checked in every coordinate, a larger one in n_directions
    random directions. Returns a GradcheckReport. Raises GradcheckError naming the input, the index, both
    values and the tolerance, and TypeError for an input or output that is not float64.
    """
    named = inputs if isinstance(inputs, dict) else {f"input {i}": x for i, x in enumerate(inputs)}
    tensors = {name: _prepared(name, x) for name, x in named.items()}
    checked = {name: t for name, t in tensors.items() if isinstance(t, Tensor) and t.requires_grad}
    if not checked:
        raise TypeError("nothing to check: no input is a float array or a float64 Tensor that requires a gradient")
    rng = np.random.default_rng([seed, 0x47524144])  # or default_rng(0) inputs would meet themselves as upstream
    upstream, grads = _analytic(fn, tensors, checked, rng)

    def value():
        with no_grad():
            outs = _outputs(fn(*tensors.values()))
        return [float((out.data * u).sum()) for out, u in zip(outs, upstream, strict=True)]

    if value() != value():
        raise GradcheckError("fn gave two different results for the same inputs: it is not deterministic")
    errors = {}
    for name, tensor in checked.items():
        directions = _directions(tensor.data, max_coordinates, n_directions, rng)
        errors[name] = _compare(name, tensor, grads[name], directions, value, rtol, step)
    return GradcheckReport(errors)


def _prepared(name, x):
    if isinstance(x, Tensor):
        if x.requires_grad and x.dtype != np.float64:
            raise TypeError(f"{name} is {x.dtype}; a gradient check needs float64 (module.astype(np.float64))")
        return x
    x = np.asarray(x)
    return Tensor(x.astype(np.float64), requires_grad=True) if x.dtype.kind == "f" else x


def _outputs(out):
    outs = list(out) if isinstance(out, (list, tuple)) else [out]
    for o in outs:
        if o.dtype != np.float64:
            raise TypeError(f"fn's output is {o.dtype} for float64 inputs; something inside narrows it")
    return outs


def _analytic(fn, tensors, checked, rng):
    """A random upstream gradient per output, and the inputs' gradients by backward."""
    kept = {name: (tensor.grad, tensor.grad_buffer) for name, tensor in checked.items()}
    for tensor in checked.values():
        tensor.grad = tensor.grad_buffer = None  # an optimizer's buffer holds the caller's gradient
    try:
        outs = _outputs(fn(*tensors.values()))
        upstream = [rng.standard_normal(out.shape) for out in outs]
        for out, u in zip(outs, upstream, strict=True):
            if out.requires_grad:
                out.backward(u, retain_graph=True)
        grads = {n: np.zeros_like(t.data) if t.grad is None else np.array(t.grad) for n, t in checked.items()}
    finally:
        for name, tensor in checked.items():
            tensor.grad, tensor.grad_buffer = kept[name]
    return upstream, grads


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


def _compare(name, tensor, grad, directions, value, rtol, step):
    rows = []
    for label, direction in directions:
        numeric, noise = _slope(tensor, direction, value, step)
        rows.append((label, float((grad * direction).sum()), numeric, noise))
    if not rows:
        return 0.0
    # what a slope along one of these directions is, typically: the norm for coordinates, its share for random ones
    scale = float(np.sqrt(np.mean([max(abs(a), abs(n)) ** 2 for _, a, n, _ in rows])))
    worst = 0.0
    for label, analytic, numeric, noise in rows:
        error, tolerance = abs(analytic - numeric), rtol * scale + noise
        if not error <= tolerance:  # also when either is NaN
            raise GradcheckError(
                f"{name}, {label}: analytic {analytic:.10g}, numeric {numeric:.10g}, "
                f"difference {error:.3g}, tolerance {tolerance:.3g} (shape {tensor.shape})"
            )
        worst = max(worst, error / scale if scale > noise else 0.0)
    return worst


def _slope(tensor, direction, value, step):
    """The derivative along `direction`, and the rounding noise in it.

    Central differences D at steps h and h / 2, extrapolated: (4 D(h/2) - D(h)) / 3 cancels the h**2 term.
    """
    x = tensor.data
    h = step * max(1.0, float(np.abs(x[direction != 0]).max(initial=0.0)) if np.count_nonzero(direction) == 1 else 1.0)
    differences, magnitude = [], 0.0
    try:
        for size in (h, 0.5 * h):
            tensor.data = np.asarray(x + size * direction)  # NumPy makes a 0-d sum a scalar
            above = value()
            tensor.data = np.asarray(x - size * direction)
            below = value()
            differences.append(sum(a - b for a, b in zip(above, below, strict=True)) / (2.0 * size))
            magnitude = max(magnitude, *map(abs, above), *map(abs, below))
    finally:
        tensor.data = x
    # values are sums of many terms, each rounded: 10 eps of the largest, carried through the division; and the
    # analytic side of a gradient that is 0 may be rounding too, in units of the upstream gradient, which is ~1
    return (4.0 * differences[1] - differences[0]) / 3.0, 10.0 * _EPS * max(magnitude / h, 1.0)
