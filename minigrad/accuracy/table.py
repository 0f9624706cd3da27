"""Rows of the table: function x dtype x backend, forward and backward."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import kernels
from kernels.arrays import on_host
from minigrad import runtime
from minigrad._tensor import Tensor
from minigrad.accuracy import measure
from minigrad.accuracy.formats import FORMATS, Format, points
from minigrad.accuracy.functions import EXEMPTIONS, FUNCTIONS, Function
from minigrad.accuracy.kernel_functions import Kernels

BOUND = 4.0  # units of rounding
DOUT = -0.7109375  # another upstream gradient than 1; exact in every format


class Row(NamedTuple):
    """The largest errors of one function in one format on one backend."""

    function: str
    format: str
    backend: str
    ulp: measure.Worst | None  # of forward, where the function is held in ulp too
    forward: measure.Worst | None  # mixed
    backward: measure.Worst | None  # mixed

    def problems(self) -> Iterator[str]:
        """A line for each error over its bound."""
        errors = {"forward": self.forward, "backward": self.backward, "forward in ulp": self.ulp}
        for direction, worst in errors.items():
            if worst is not None and not worst.error <= self.allowed(direction)[0]:
                yield f"{self.function}, {self.format}, {self.backend}, {direction}: {worst}"

    @property
    def exempt(self) -> bool:
        return any(self.allowed(way) != (BOUND, 1.0) for way in ("forward", "backward"))

    def allowed(self, direction: str) -> tuple[float, float]:
        return allowed(self.function, direction, self.format, self.backend)


def allowed(function: str, direction: str, format: str, backend: str) -> tuple[float, float]:
    """(units of rounding, steps between subnormal numbers): the bounds, or what an exemption allows."""
    for e in EXEMPTIONS:
        here = format in e.formats and (not e.backends or backend in e.backends)
        if here and (e.function, e.direction) == (function, direction):
            return e.allowed, e.steps
    return BOUND, 1.0


def rows(count: int, only: str | None = None, device: bool = True, seed: int = 0) -> Iterator[Row]:
    """The rows, one after the other, with `count` numbers each. only: the name of a function. device: simulated too."""
    for function in FUNCTIONS:
        if only in (None, function.name):
            for name in FORMATS:
                yield from _rows_of(function, FORMATS[name], count, device, seed)


def _rows_of(function: Function, form: Format, count: int, device: bool, seed: int) -> Iterator[Row]:
    backends = _backends(function, form, device)
    if not backends:
        return
    x = points(form, function.around, function.domain, count, np.random.default_rng([seed, form.bits]))
    values, derivatives = measure.exact(function.value, x), measure.exact(function.derivative, x)
    slopes = [measure.mpf(float(v)) * d for v, d in zip(x, derivatives, strict=True)]
    curvatures = measure.slopes_by_difference(function.derivative, x, derivatives)
    for backend in backends:
        out, gradients = _computed(function, x, backend)
        steps = allowed(function.name, "backward", form.name, backend)[1]
        backward = [
            _backward_error(form, x, dout, dx, (values, derivatives, curvatures), steps)
            for dout, dx in gradients.items()
        ]
        ulp = forward = None
        if out is not None:
            steps = allowed(function.name, "forward", form.name, backend)[1]
            forward = measure.mixed_error(form, x, out, values, slopes, steps)
            ulp = measure.ulp_error(form, x, out, values) if function.plain else None
        yield Row(
            function.name, form.name, backend, ulp, forward,
            max(backward, key=lambda worst: worst.error) if backward else None,
        )  # fmt: skip


def _backward_error(
    form: Format, x: np.ndarray, dout: float, dx: np.ndarray, exact: tuple[list[Any], ...], steps: float
) -> measure.Worst:
    """The mixed error of dx for dout f'(x). exact: f(x), f'(x), x f''(x).

    Where f(x) or f'(x) alone overflows, a smaller product of it may be infinite too.
    """
    values, derivatives, curvatures = exact
    large = [max(abs(f), abs(d)) >= measure.overflow(form) for f, d in zip(values, derivatives, strict=True)]
    keep = [i for i in range(len(x)) if not (large[i] and np.isinf(float(dx[i])))]
    expected, slopes = ([dout * numbers[i] for i in keep] for numbers in (derivatives, curvatures))
    return measure.mixed_error(form, x[keep], dx[keep], expected, slopes, steps)


def _backends(function: Function, form: Format, device: bool) -> list[str]:
    on_device = ["cuda-sim"] if function.kernels and device else []
    if form.name == "bfloat16":  # the storage of kernels on a device; NumPy has none
        return on_device
    if function.kernels is None:
        return ["numpy"]
    return (["reference", "cpu"] if form.name in function.kernels.on_cpu else []) + on_device


def _computed(function: Function, x: np.ndarray, backend: str) -> tuple[np.ndarray | None, dict[float, np.ndarray]]:
    """(function(x), {dout: its gradient}), arrays like x; None, and no gradients, where kernels are not held."""
    with np.errstate(all="ignore"):
        douts = {dout: np.full(x.shape, dout, x.dtype) for dout in (1.0, DOUT)}
        if function.kernels is not None:
            return _by_kernels(function.kernels, x, douts, backend)
        assert function.call is not None
        out, gradients = function.call(Tensor(x)).data, {}
        for dout, array in douts.items():
            leaf = Tensor(x, requires_grad=True)
            result = function.call(leaf)
            if result.requires_grad:
                result.backward(array)
            gradients[dout] = np.zeros_like(x) if leaf.grad is None else leaf.grad
        return out, gradients


def _by_kernels(
    kernel: Kernels, x: np.ndarray, douts: dict[float, np.ndarray], backend: str
) -> tuple[np.ndarray | None, dict[float, np.ndarray]]:
    place: Callable[[Any], Any] = runtime.asarray("cuda-sim" if backend == "cuda-sim" else "cpu")
    module = kernels.backend("cuda" if backend == "cuda-sim" else backend)
    out = None if kernel.forward is None else on_host(kernel.forward(module, place, x))
    if kernel.backward is None:
        return out, {}
    return out, {dout: on_host(kernel.backward(module, place, array, x)) for dout, array in douts.items()}


HEADING = """\
The largest errors over the whole range of each dtype, subnormal numbers and tails included, against mpmath.
ulp: |result - f(x)| in units in the last place of f(x), for plain functions. forward, backward: the smallest t with
result = f(x (1 + d)) (1 + e) and |d|, |e| <= t units of rounding (2**-24 in float32, half an ulp); backward: for f'.
Allowed are 4, and one step between subnormal numbers; * marks the exceptions, whose reasons stand below the table.
backend: numpy where NumPy computes; reference, cpu (compiled) and cuda-sim (the CUDA source, on a simulated device).
"""
COLUMNS = f"{'function':<16} {'dtype':<9} {'backend':<10} {'ulp':>8} {'forward':>8} {'backward':>9}"


def text(row: Row) -> str:
    """A row as a line below COLUMNS; a star where an exception is allowed, an exclamation mark for an error over it."""
    cells = "".join(f"{'' if w is None else format(w.error, '.2f'):>9}" for w in (row.ulp, row.forward, row.backward))
    mark = " !" if any(row.problems()) else " *" if row.exempt else ""
    return f"{row.function:<16} {row.format:<9} {row.backend:<10}{cells} {mark}".rstrip()
