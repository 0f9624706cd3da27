"""Rows of the table: function x dtype x backend, forward and backward."""

from typing import NamedTuple

import numpy as np

import kernels
from kernels.arrays import on_host
from minigrad import runtime
from minigrad._tensor import Tensor
from minigrad.accuracy import measure
from minigrad.accuracy.formats import FORMATS, points
from minigrad.accuracy.functions import EXEMPTIONS, FUNCTIONS

BOUND = 4.0  # units of rounding
DOUT = -0.7109375  # another upstream gradient than 1; exact in every format


class Row(NamedTuple):
    """The largest errors of one function in one format on one backend."""

    function: str
    format: str
    backend: str
    ulp: measure.Worst | None  # of forward, where the function is held in ulp too
    forward: measure.Worst  # mixed
    backward: measure.Worst  # mixed

    def problems(self):
        """A line for each error over its bound."""
        errors = {"forward": self.forward, "backward": self.backward, "forward in ulp": self.ulp}
        for direction, worst in errors.items():
            if worst is not None and not worst.error <= allowed(self.function, direction, self.format)[0]:
                yield f"{self.function}, {self.format}, {self.backend}, {direction}: {worst}"

    @property
    def exempt(self):
        return any(allowed(self.function, way, self.format) != (BOUND, 1.0) for way in ("forward", "backward"))


def allowed(function, direction, format):
    """(units of rounding, steps between subnormal numbers): the bounds, or what an exemption allows."""
    for e in EXEMPTIONS:
        if (e.function, e.direction) == (function, direction) and format in e.formats:
            return e.allowed, e.steps
    return BOUND, 1.0


def rows(count, only=None, device=True, seed=0):
    """The rows, one after the other, with `count` numbers each. only: the name of a function. device: simulated too."""
    for function in FUNCTIONS:
        if only in (None, function.name):
            for name in FORMATS:
                yield from _rows_of(function, FORMATS[name], count, device, seed)


def _rows_of(function, form, count, device, seed):
    backends = _backends(function, form, device)
    if not backends:
        return
    x = points(form, function.around, function.domain, count, np.random.default_rng([seed, form.bits]))
    values, derivatives = measure.exact(function.value, x), measure.exact(function.derivative, x)
    slopes = [measure.mpf(float(v)) * d for v, d in zip(x, derivatives, strict=True)]
    curvatures = measure.slopes_by_difference(function.derivative, x, derivatives)
    for backend in backends:
        out, gradients = _computed(function, x, backend)
        backward = [
            _backward_error(function, form, x, dout, dx, (values, derivatives, curvatures))
            for dout, dx in gradients.items()
        ]
        yield Row(
            function.name, form.name, backend,
            measure.ulp_error(form, x, out, values) if function.plain else None,
            measure.mixed_error(form, x, out, values, slopes, allowed(function.name, "forward", form.name)[1]),
            max(backward, key=lambda worst: worst.error),
        )  # fmt: skip


def _backward_error(function, form, x, dout, dx, exact):
    """The mixed error of dx for dout f'(x). exact: f(x), f'(x), x f''(x).

    Where f(x) or f'(x) alone overflows, a smaller product of it may be infinite too.
    """
    values, derivatives, curvatures = exact
    large = [max(abs(f), abs(d)) >= measure.overflow(form) for f, d in zip(values, derivatives, strict=True)]
    keep = [i for i in range(len(x)) if not (large[i] and np.isinf(float(dx[i])))]
    expected, slopes = ([dout * numbers[i] for i in keep] for numbers in (derivatives, curvatures))
    steps = allowed(function.name, "backward", form.name)[1]
    return measure.mixed_error(form, x[keep], dx[keep], expected, slopes, steps)


def _backends(function, form, device):
    on_device = ["cuda-sim"] if function.kernel and device else []
    if form.name == "bfloat16":  # the storage of kernels on a device; NumPy has none
        return on_device
    return (["reference", "cpu"] if function.kernel else ["numpy"]) + on_device


def _computed(function, x, backend):
    """(function(x), {dout: its gradient}), arrays like x."""
    out_of, gradient_of = _by_kernels(function, backend) if function.kernel else _by_operation(function)
    with np.errstate(all="ignore"):
        gradients = {dout: gradient_of(np.full(x.shape, dout, x.dtype), x) for dout in (1.0, DOUT)}
        return out_of(x), gradients


def _by_operation(function):
    def out_of(x):
        return function.call(Tensor(x)).data

    def gradient_of(dout, x):
        leaf = Tensor(x, requires_grad=True)
        function.call(leaf).backward(dout)
        return leaf.grad

    return out_of, gradient_of


def _by_kernels(function, backend):
    name, setting = function.kernel
    place = runtime.asarray("cuda-sim" if backend == "cuda-sim" else "cpu")
    module = kernels.backend("cuda" if backend == "cuda-sim" else backend)
    forward, backward = getattr(module, f"{name}_forward"), getattr(module, f"{name}_backward")
    return (
        lambda x: on_host(forward(place(x), setting)),
        lambda dout, x: on_host(backward(place(dout), place(x), setting)),
    )


HEADING = f"{'function':<16} {'dtype':<9} {'backend':<10} {'ulp':>8} {'forward':>8} {'backward':>9}   mixed error"


def text(row):
    """A row as a line below HEADING; a star where the bound does not apply."""
    cells = " ".join(f"{'' if w is None else format(w.error, '.2f'):>8}" for w in (row.ulp, row.forward, row.backward))
    return f"{row.function:<16} {row.format:<9} {row.backend:<10} {cells}{' *' if row.exempt else ''}"
