"""Pairs (forward, vjp) of functions of plain arrays: NumPy's, CuPy's, the simulator's, or another library's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.gradient_checking.arrays import Arrays
from minigrad.gradient_checking.misfit import misfit
from minigrad.gradient_checking.precision import BY_DTYPE
from minigrad.gradient_checking.probe import Gradients, Probe
from minigrad.gradient_checking.results import GradcheckError
from minigrad.gradient_checking.structures import described, dtype_name, holds_no_array, leaves, rebuilt


class PairProbe(Probe):
    """forward(*inputs) -> outputs; vjp(dout, *inputs) -> a gradient for each input, None for one that has none.

    dout has the structure of the outputs, None where an output has no gradient. All arrays of floating-point numbers
    are checked, in their own dtype.
    """

    def __init__(self, pair: Sequence[Callable[..., Any]], inputs: dict[str, Any], arrays: Arrays) -> None:
        forward, self.backward = pair
        super().__init__(forward, inputs, arrays)
        for name, x in self.checked.items():  # the functions get copies
            self.inputs[name] = arrays.like(x, self.inputs[name])

    def _called_with(self) -> str:
        names = ", ".join(self.structure)
        return f"gradcheck called forward({names}) with {self.arrays.library}'s arrays; a pair is (forward, vjp)"

    def _output(self, value: Any) -> Any:
        """A 0-d array for a number: NumPy makes one of a 0-d result, and here it may well have a gradient."""
        return np.asarray(value) if isinstance(value, (float, np.floating)) else value

    def _vjp(self) -> Callable[[list[np.ndarray]], Gradients]:
        out = self._call()
        outs = dict(self.floats(out))

        def vjp(upstream: list[np.ndarray]) -> Gradients:
            douts = {path: self.arrays.like(u, x) for (path, x), u in zip(outs.items(), upstream, strict=True)}
            before = [self.arrays.host(dout).tobytes() for dout in douts.values()]
            grads = self._by_name(self._backward(rebuilt(out, (douts.get(path) for path, _ in leaves(out)))))
            if before != [self.arrays.host(dout).tobytes() for dout in douts.values()]:
                raise GradcheckError("vjp changed dout, which is not its own", cause="modifies dout")
            grads = {name: self._fitting(name, grads[name]) for name in self.checked}
            self.linked = any(grad is not None and self.arrays.host(grad).any() for grad in grads.values())
            return grads

        return vjp

    def _backward(self, dout: Any) -> Any:
        try:
            return self.backward(dout, *self.arguments())
        except TypeError as error:
            error.add_note(f"gradcheck called vjp(dout, {', '.join(self.structure)})")
            raise

    def _by_name(self, returned: Any) -> Gradients:
        """{name: what vjp returned for that input}. TypeError for other names, or another number of gradients."""
        names = list(self.structure)
        only = self.structure[names[0]] if len(names) == 1 else None
        if isinstance(returned, Mapping) and (not isinstance(only, Mapping) or returned.keys() == set(names)):
            grads = returned
        elif isinstance(returned, (list, tuple)) and len(returned) == len(names):
            grads = dict(zip(names, returned, strict=True))
        elif len(names) == 1 and (isinstance(only, (list, tuple, Mapping)) or not _are_arrays(returned)):
            grads = {names[0]: returned}
        else:
            raise self._other_gradients(returned, "")
        return self._matched(self.structure, grads, "")

    def _matched(self, given: Any, grads: Any, path: str) -> Gradients:
        """Gradients in the structure of the inputs, as {name: gradient}; None may stand for a whole part of it."""
        if holds_no_array(given) or not isinstance(given, (list, tuple, Mapping)):
            return {path: grads}
        if isinstance(given, Mapping):
            fits = isinstance(grads, Mapping) and grads.keys() == given.keys()
        else:
            fits = isinstance(grads, (list, tuple)) and len(grads) == len(given)
        if grads is not None and not fits:
            raise self._other_gradients(grads, path)
        matched: Gradients = {}
        for key, value in given.items() if isinstance(given, Mapping) else enumerate(given):
            name = f"{path}[{key!r}]" if path else str(key)
            matched |= self._matched(value, None if grads is None else grads[key], name)
        return matched

    def _other_gradients(self, returned: Any, path: str) -> TypeError:
        given = self.structure if not path else None
        what = described(returned)
        if isinstance(returned, Mapping):
            what = f"a dict of {', '.join(map(str, returned)) or 'nothing'}"
        elif isinstance(returned, (list, tuple)):
            what = f"{len(returned)} gradient{'' if len(returned) == 1 else 's'}"
        if given is None:
            return TypeError(f"vjp returned {what} as the gradient of {path}; expected the structure of that input")
        number = f"{len(given)} input{'' if len(given) == 1 else 's'}"
        return TypeError(
            f"vjp returned {what} for {number} ({', '.join(given)}); expected one gradient for each, None for an input "
            "that has none"
        )

    def _fitting(self, name: str, grad: Any) -> Any:
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


def _are_arrays(returned: Any) -> bool:
    """Whether it is a list or tuple of several gradients."""
    return isinstance(returned, (list, tuple)) and not holds_no_array(returned)
