"""Functions of JAX arrays, differentiated by `jax.vjp`: all arrays of floating-point numbers are checked."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.gradient_checking.arrays import JaxArrays
from minigrad.gradient_checking.probe import Gradients, Probe


class JaxProbe(Probe):
    """NumPy arrays of floating-point numbers become JAX's, as in JAX itself; what is no such array is not traced."""

    arrays: JaxArrays

    def _prepared(self, name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            return self.arrays.jax.numpy.asarray(value)
        return value

    def _vjp(self) -> Callable[[list[np.ndarray]], Gradients]:
        names = list(self.checked)
        concrete = self.inputs

        def of_the_checked(*arrays: Any) -> list[Any]:
            self.inputs = concrete | dict(zip(names, arrays, strict=True))
            try:
                return [out for _, out in self.floats(self._call())]
            finally:
                self.inputs = concrete

        outs, pullback = self.arrays.jax.vjp(of_the_checked, *(concrete[name] for name in names))
        self.refuse_other_values(outs)

        def vjp(upstream: list[np.ndarray]) -> Gradients:
            douts = [self.arrays.jax.numpy.asarray(u, dtype=out.dtype) for u, out in zip(upstream, outs, strict=True)]
            grads = dict(zip(names, pullback(douts), strict=True))
            self.linked = any(bool((grad != 0).any()) for grad in grads.values())
            return grads

        return vjp
