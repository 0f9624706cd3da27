"""Pairs (forward, vjp) of functions of plain arrays: NumPy's, CuPy's, the simulator's, or another library's."""

from collections.abc import Mapping

import numpy as np

from minigrad.gradient_checking.misfit import misfit
from minigrad.gradient_checking.precision import BY_DTYPE
from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.results import GradcheckError
from minigrad.gradient_checking.structures import described, dtype_name, leaves, rebuilt


class PairProbe(Probe):
    """forward(*inputs) -> outputs; vjp(dout, *inputs) -> a gradient for each input, None for one that has none.

    dout has the structure of the outputs, None where an output has no gradient. All arrays of floating-point numbers
    are checked, in their own dtype.
    """

    def __init__(self, pair, inputs, arrays):
        forward, self.vjp = pair
        super().__init__(forward, inputs, arrays)
        for name, x in self.checked.items():  # the functions get copies
            self.inputs[name] = arrays.like(x, self.inputs[name])

    def _output(self, value):
        """A 0-d array for a number: NumPy makes one of a 0-d result, and here it may well have a gradient."""
        return np.asarray(value) if isinstance(value, (float, np.floating)) else value

    def _vjp(self, upstream):
        out = self._call()
        outs = dict(self.floats(out))
        douts = {path: self.arrays.like(u, x) for (path, x), u in zip(outs.items(), upstream, strict=True)}
        before = [self.arrays.host(dout).tobytes() for dout in douts.values()]
        shaped = rebuilt(out, (douts.get(path) for path, _ in leaves(out)))
        grads = self._by_name(self.vjp(shaped, *self.arguments()))
        if before != [self.arrays.host(dout).tobytes() for dout in douts.values()]:
            raise GradcheckError("vjp changed dout, which is not its own", cause="modifies dout")
        grads = {name: self._fitting(name, grads[name]) for name in self.checked}
        self.linked = any(grad is not None and self.arrays.host(grad).any() for grad in grads.values())
        return grads

    def _by_name(self, returned):
        """{name: what vjp returned for that input}."""
        names = list(self.inputs)
        if isinstance(returned, Mapping) and returned.keys() == self.inputs.keys():
            return returned
        grads = [grad for _, grad in leaves(returned)]
        if len(grads) != len(names):
            raise TypeError(
                f"vjp returned {len(grads)} gradient{'s' if len(grads) != 1 else ''} for {len(names)} inputs "
                f"({', '.join(names)}); expected one for each, None for an input that has none"
            )
        return dict(zip(names, grads, strict=True))

    def _fitting(self, name, grad):
        """The gradient as an array, if it fits its input."""
        grad = np.asarray(grad) if isinstance(grad, (int, float, np.generic)) else grad
        if grad is None:
            return None
        x = self.inputs[name]
        if not self.arrays.owns(grad):
            raise TypeError(f"vjp returned {described(grad)} as the gradient of {name}; expected {self.arrays.kind}")
        dtype = dtype_name(grad)
        narrow = "int" not in dtype and (dtype not in BY_DTYPE or BY_DTYPE[dtype].eps > self.precision.eps)
        if narrow or tuple(grad.shape) != tuple(x.shape):
            raise misfit("vjp", name, name, grad, x, self.shapes)
        return grad
