"""The numerical gradient of a function along a direction, and the search for the coordinates that backward got wrong.

This file measures; `check` decides whether a gradient is wrong, `likely_causes` why.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.arrays import is_array, on_host
from minigrad import graph
from minigrad._tensor import Tensor, gradients_aside
from minigrad.gradient_checking.results import GradcheckError

EPS = np.finfo(np.float64).eps
_SWEEP = 10.0 ** -np.arange(2.0, 9.0)  # steps from 1e-2 to 1e-8


class Probe:
    """A function and its inputs, in float64.

    inputs   name -> array or Tensor, in the order in which fn takes them
    checked  name -> Tensor: the inputs that require a gradient
    """

    def __init__(self, fn, inputs):
        self.fn = fn
        self.inputs = {name: _prepared(name, x) for name, x in inputs.items()}
        self.checked = {n: t for n, t in self.inputs.items() if isinstance(t, Tensor) and t.requires_grad}

    def outputs(self):
        """The results of fn as arrays, computed without a graph."""
        with graph.no_grad():
            return [out.data for out in self._call()]

    def values(self, upstream):
        """One float per output: the sum of output times upstream gradient."""
        return [float((out * u).sum()) for out, u in zip(self.outputs(), upstream, strict=True)]

    def moved(self, tensor, data, measure, *args):
        """`measure(*args)` with the tensor's data replaced."""
        before = tensor.data
        try:
            tensor.data = np.asarray(data)  # NumPy makes a 0-d sum a scalar
            return measure(*args)
        finally:
            tensor.data = before

    def pull(self, upstreams):
        """Backward from one forward pass: yields {name of an input: gradient} for each list of upstream gradients.

        upstreams: an iterable of lists, or a function of the outputs' shapes that returns one.
        """
        observer, graph.observer = graph.observer, _BackwardGuard(self.checked)
        checked = list(self.checked.values())
        try:
            with gradients_aside(checked):
                outs = self._call()
            leaves = {id(leaf): leaf for out in outs if out.node for leaf in graph.leaves(out.node)}
            leaves |= {id(tensor): tensor for tensor in checked}
            for upstream in upstreams([out.shape for out in outs]) if callable(upstreams) else upstreams:
                with gradients_aside(leaves.values()):  # parameters inside fn are among them
                    grads = self._gradients(outs, upstream)
                yield grads
        finally:
            graph.observer = observer

    def _gradients(self, outs, upstream):
        """{name: gradient of an input} for a list of upstream gradients. The leaves must have no gradient before."""
        for out, u in zip(outs, upstream, strict=True):
            if out.requires_grad and u is not None:
                out.backward(u, retain_graph=True)
        grads = {name: tensor.grad for name, tensor in self.checked.items()}
        return {n: np.zeros_like(self.checked[n].data) if g is None else np.array(g) for n, g in grads.items()}

    def _call(self):
        out = self.fn(*self.inputs.values())
        outs = list(out) if isinstance(out, (list, tuple)) else [out]
        for o in outs:
            if o.dtype != np.float64:
                raise TypeError(f"fn's output is {o.dtype} for float64 inputs; something inside narrows it")
        return outs


def _prepared(name, x):
    if isinstance(x, Tensor):
        if x.requires_grad and x.dtype != np.float64:
            raise TypeError(f"{name} is {x.dtype}; a gradient check needs float64 (module.astype(np.float64))")
        return x
    x = np.asarray(x)
    return Tensor(x.astype(np.float64), requires_grad=True) if x.dtype.kind == "f" else x


class _BackwardGuard:
    """A graph.observer: raises where a backward function changes its arguments or returns a wrong shape or dtype."""

    def __init__(self, checked):
        self.names = {id(tensor): name for name, tensor in checked.items()}
        self.before = []

    def __call__(self, node, dout, grads):
        if grads is None:
            arrays = [("dout", dout), *((k, v) for k, v in node.saved.items() if is_array(v))]
            self.before = [(name, array, array.copy()) for name, array in arrays]
            return
        for name, array, copy in self.before:
            if on_host(array).tobytes() != on_host(copy).tobytes():
                cause = "modifies dout" if name == "dout" else "modifies inputs"
                raise GradcheckError(f"{node.op}_backward changed {name}, which is not its own", cause=cause)
        for i, (parent, grad) in enumerate(zip(node.parents, grads, strict=False)):
            if parent is not None and grad is not None:
                self._fits(node, i, parent, grad, dout)

    def _fits(self, node, i, parent, grad, dout):
        if grad.shape == parent.shape and grad.dtype == parent.dtype:
            return
        name = self.names.get(id(parent))
        what = f"{node.op}_backward returned a gradient of {grad.shape} {grad.dtype} "
        what += f"for an input of {parent.shape} {parent.dtype}"
        cause = "dtype"
        if grad.shape != parent.shape:
            cause = "transposed" if grad.shape == parent.shape[::-1] else "shape"
            if grad.shape == dout.shape and broadcasts_to(parent.shape, grad.shape):
                cause = "missing broadcast sum"
                what += "\n  likely cause: the input was broadcast, and the sum over the repeated axes is missing"
        raise GradcheckError(f"{name or f'parent {i}'}: {what}", input=name, cause=cause)


def broadcasts_to(shape, out_shape):
    """Can an array of `shape` be broadcast to `out_shape`?"""
    try:
        return np.broadcast_shapes(shape, out_shape) == out_shape
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------ derivatives


class NumericalGradient(NamedTuple):
    """A derivative along a direction, the rounding noise in it, and how far its two sides differ at two steps."""

    numeric: float
    noise: float
    bends: tuple[float, float]


def numerical_gradient(probe, tensor, direction, upstream, step, here):
    """The derivative of sum(output * upstream) along `direction`. here: the values where the tensor stands.

    Central differences D at steps h and h / 2, extrapolated: (4 D(h/2) - D(h)) / 3 cancels the h**2 term.
    """
    x = tensor.data
    h = step * max(1.0, float(np.abs(x[direction != 0]).max(initial=0.0)) if np.count_nonzero(direction) == 1 else 1.0)
    differences, bends, magnitude = [], [], 0.0
    for size in (h, 0.5 * h):
        above = probe.moved(tensor, x + size * direction, probe.values, upstream)
        below = probe.moved(tensor, x - size * direction, probe.values, upstream)
        differences.append(sum(a - b for a, b in zip(above, below, strict=True)) / (2.0 * size))
        bends.append(abs(sum(a + b - 2.0 * c for a, b, c in zip(above, below, here, strict=True))) / size)
        magnitude = max(magnitude, *map(abs, above), *map(abs, below))
    # values are sums of many terms, each rounded: 10 eps of the largest, carried through the division; and the
    # analytic side of a gradient that is 0 may be rounding too, in units of the upstream gradient, which is ~1
    noise = 10.0 * EPS * max(magnitude / h, 1.0)
    return NumericalGradient((4.0 * differences[1] - differences[0]) / 3.0, noise, tuple(bends))


def sweep(probe, tensor, direction, upstream, here):
    """The numerical gradient at the most stable of many step sizes -> its value, its error, that step.

    Large steps suffer from curvature and small ones from rounding. Between them, results at neighbouring steps
    agree; their difference is the error.
    """
    with np.errstate(all="ignore"):  # a large step may leave the function's domain
        gradients = np.array([numerical_gradient(probe, tensor, direction, upstream, s, here).numeric for s in _SWEEP])
        gaps = np.nan_to_num(np.abs(np.diff(gradients)), nan=np.inf)
    floor = np.maximum(gaps[:-1], gaps[1:])  # of a step and both its neighbours
    best = int(floor.argmin())
    return float(gradients[best + 1]), float(floor[best]), float(_SWEEP[best + 1])


@dataclass(frozen=True)
class Kink:
    """A point where the derivatives from the left and from the right differ, so that there is no gradient."""

    input: str
    where: str
    left: float
    right: float
    analytic: float


def kink(probe, tensor, direction, upstream, scale):
    """A kink along a direction: (left, right, low, high, smooth); None if the function is smooth here.

    left, right   the one-sided derivatives
    low, high     the range of valid gradients: each output may take either side
    smooth        the upstream gradients, set to 0 for outputs with a kink

    The gap between the two sides shrinks with the step where the function is smooth, and stays at a kink.
    """
    here = probe.outputs()
    left, right, wide = _one_sided(probe, tensor, direction, upstream, here, 1e-5)
    left, right, gaps = _one_sided(probe, tensor, direction, upstream, here, 1e-6)
    rounding = 8.0 * EPS * np.abs(direction).max() / 1e-6
    noise = [rounding * np.abs(u * out) for u, out in zip(upstream, here, strict=True)]
    kinked = [(g > 0.5 * w) & (g > 2.0 * n) for g, w, n in zip(gaps, wide, noise, strict=True)]
    total = sum(float(n.sum()) for n in noise)
    if sum(float((g * k).sum()) for g, k in zip(gaps, kinked, strict=True)) <= 1e-4 * scale + total:
        return None
    low = sum(float(np.minimum(x, y).sum()) for x, y in zip(left, right, strict=True)) - total
    high = sum(float(np.maximum(x, y).sum()) for x, y in zip(left, right, strict=True)) + total
    smooth = [np.where(k, 0.0, u) for k, u in zip(kinked, upstream, strict=True)]
    return sum(float(x.sum()) for x in left), sum(float(x.sum()) for x in right), low, high, smooth


def _one_sided(probe, tensor, direction, upstream, here, step):
    """Per output element: the derivatives from the left and the right, and the gap between them; lists of arrays."""
    size = step / np.abs(direction).max()  # no element moves further than `step`
    below, above = (probe.moved(tensor, tensor.data + s * direction, probe.outputs) for s in (-size, size))
    left = [u * (c - b) / size for u, b, c in zip(upstream, below, here, strict=True)]
    right = [u * (a - c) / size for u, a, c in zip(upstream, above, here, strict=True)]
    return left, right, [np.abs(x - y) for x, y in zip(left, right, strict=True)]


def locate(probe, tensor, grad, upstream, here, tolerance, rng, most=8):
    """Flat indices of coordinates whose gradient is wrong, at most `most`, with about log2(n) measurements for each.

    Binary search: the error along a direction is the sum of the errors along its two halves, so one measurement
    gives both. The half with the larger error is searched first.
    """
    x, flat = tensor.data, grad.reshape(-1)
    weights = rng.uniform(0.5, 1.5, x.size) * rng.choice([-1.0, 1.0], x.size)

    def error(start, stop):
        direction = np.zeros(x.size)
        direction[start:stop] = weights[start:stop]
        measured = numerical_gradient(probe, tensor, direction.reshape(x.shape), upstream, 1e-3, here)
        return float(flat[start:stop] @ weights[start:stop]) - measured.numeric, measured.noise

    found, stack = [], [(0, x.size, error(0, x.size)[0])]
    while stack and len(found) < most:
        start, stop, total = stack.pop()
        if stop - start == 1:
            found.append(start)
            continue
        middle = (start + stop) // 2
        left, noise = error(start, middle)
        halves = [(start, middle, left), (middle, stop, total - left)]
        least = max(tolerance, 4.0 * noise, 1e-6 * abs(total))
        # `not <=` keeps NaN too; the half with the larger error is pushed last, so it is searched first
        stack += sorted((half for half in halves if not abs(half[2]) <= least), key=lambda half: abs(half[2]))
    return found
