"""A function and its inputs, and what a check asks of them: values, values a step away, gradients by backward."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import numpy as np

from minigrad.argument_types import Shape
from minigrad.gradient_checking.arrays import Arrays
from minigrad.gradient_checking.precision import BY_DTYPE, Precision
from minigrad.gradient_checking.results import GradcheckError
from minigrad.gradient_checking.structures import described, dtype_name, holds_no_array, is_array_like, leaves, rebuilt

T = TypeVar("T")
#: {name of an input: its gradient by backward, an array of the library, or None}
Gradients: TypeAlias = dict[str, Any]


class Probe:
    """What all libraries have in common; a subclass for each says how its functions are called and differentiated.

    inputs     name -> what fn gets: tensors, arrays, and whatever else was given, as it was given
    checked    name -> values of the inputs that are checked, NumPy arrays of float64; not to be changed
    paths      of the outputs that are checked, once `outputs` was called; their `shapes`, and `values`, at the inputs
    linked     whether backward reached an input, once `pull` was used
    detached   paths of outputs that the library's graph does not lead to, once `pull` was used
    precision  of what fn computes
    """

    has_same_bits = False  # whether fn must give the same bits twice; a GPU's atomics add in any order

    def __init__(self, fn: Callable[..., Any], inputs: dict[str, Any], arrays: Arrays) -> None:
        self.fn, self.arrays, self.structure = fn, arrays, inputs
        given: dict[str, Any] = {}
        for name, value in inputs.items():
            given.update(leaves(value, name, holds_no_array))
        self.inputs = {name: self._prepared(name, value) for name, value in given.items()}
        names = [name for name, value in self.inputs.items() if self._is_checked(value)]
        if not names:
            raise TypeError(self._nothing_to_check())
        dtypes = [self._checkable(name) for name in names]
        self.precision: Precision = max((BY_DTYPE[dtype] for dtype in dtypes), key=lambda each: each.eps)
        self.dtype = max(dtypes, key=lambda dtype: BY_DTYPE[dtype].eps)
        self.checked = {name: self._values(self.inputs[name]) for name in names}
        self.values: list[np.ndarray] | None = None
        self.shapes: list[Shape] = []
        self.paths: list[str] = []
        self.linked = False
        self.detached: list[str] = []
        self.contents = self._contents()

    # ------------------------------------------------------------------------------ what a library says

    def _prepared(self, name: str, value: Any) -> Any:
        """What fn gets for the input `value`."""
        return value

    def _is_checked(self, value: Any) -> bool:
        return self.arrays.owns(value) and "float" in dtype_name(value)

    def _values(self, value: Any) -> np.ndarray:
        return self.arrays.host(value)

    def _nothing_to_check(self) -> str:
        return f"nothing to check: no input is {self.arrays.kind} of floating-point numbers"

    def _call(self) -> Any:
        """The result of fn."""
        try:
            return self.fn(*self.arguments())
        except (TypeError, AttributeError) as error:
            if self.values is None:  # at the first call
                error.add_note(self._called_with())
            raise

    def _called_with(self) -> str:
        """For an exception of fn: what fn got, which may not be what it takes."""
        return f"gradcheck called fn with {self.arrays.library}'s arrays, as given; is fn a function of those?"

    def _output(self, value: Any) -> Any:
        """An output, if need be made an array of the library."""
        return value

    def _replace(self, name: str, values: np.ndarray) -> Callable[[], None]:
        """Give the input these values; returns the function that puts back what was there."""
        before = self.inputs[name]
        self.inputs[name] = self.arrays.like(values, before)

        def back() -> None:
            self.inputs[name] = before

        return back

    def _vjp(self) -> Callable[[list[np.ndarray]], Gradients]:
        """Call fn once -> a function of upstream gradients, which may be called often; sets `linked`, `detached`."""
        raise NotImplementedError

    @contextmanager
    def own_memory(self) -> Iterator[None]:
        """Inside, fn gets copies of the caller's arrays."""
        yield

    # ------------------------------------------------------------------------------ what a check asks

    def arguments(self) -> list[Any]:
        """The arguments of fn, in the structure in which they were given."""
        items = iter(self.inputs.values())
        return [rebuilt(value, items, holds_no_array) for value in self.structure.values()]

    def outputs(self) -> list[np.ndarray]:
        """The values of all outputs of floating-point numbers, float64 on the host."""
        found = self.floats(self._call())
        outs = [self.arrays.host(out) for _, out in found]
        shapes = [out.shape for out in outs]
        if self.values is None:
            self.paths, self.shapes, self.values = [path for path, _ in found], shapes, outs
        elif shapes != self.shapes:
            raise GradcheckError(
                f"fn's outputs have shapes {self.shapes} at its inputs and {shapes} a step away", cause="shape"
            )
        return outs

    def refuse_other_values(self, outs: list[Any]) -> None:
        """GradcheckError if fn gives other values where it is differentiated, as a wrong `fwd` of JAX does."""
        for path, out, value in zip(self.paths, outs, self.values or [], strict=True):
            there = self.arrays.host(out)
            allowed = self.precision.same_bits * np.abs(value).max(initial=0.0)
            if there.shape != value.shape or np.abs(there - value).max(initial=0.0) > allowed:
                raise GradcheckError(
                    f"fn's output{path} has other values where fn is differentiated than where it is only called: "
                    "its forward for backward is another function",
                    cause="other values",
                )

    def products(self, upstream: list[np.ndarray]) -> list[np.ndarray]:
        """Each output times its upstream gradient."""
        return [out * u for out, u in zip(self.outputs(), upstream, strict=True)]

    def sums(self, upstream: list[np.ndarray]) -> list[float]:
        """One float per output: the sum of output times upstream gradient."""
        return [float(product.sum()) for product in self.products(upstream)]

    def moved(self, name: str, values: np.ndarray, measure: Callable[..., T], *args: Any) -> T:
        """`measure(*args)` where the input `name` has other values."""
        back = self._replace(name, np.asarray(values))  # NumPy makes a 0-d sum a scalar
        try:
            return measure(*args)
        finally:
            back()

    def pull(self, upstreams: Iterable[list[np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Yields {name: gradient of an input by backward} for each list of upstream gradients."""
        vjp = self._vjp()
        for upstream in upstreams:
            yield {
                name: np.zeros(self.checked[name].shape) if grad is None else self.arrays.host(grad)
                for name, grad in vjp(upstream).items()
            }

    def changes(self, rng: np.random.Generator) -> list[bool]:
        """Whether each output changes when all checked inputs move by a step."""
        here, backs = self.outputs(), []
        try:
            for name, x in self.checked.items():
                backs.append(self._replace(name, x + self.precision.step * rng.uniform(0.5, 1.0, x.shape)))
            with np.errstate(all="ignore"):
                there = self.outputs()
        finally:
            for back in reversed(backs):
                back()
        return [a.tobytes() != b.tobytes() for a, b in zip(here, there, strict=True)]

    def refuse_changed_inputs(self) -> None:
        """GradcheckError if an array among the inputs no longer holds what it held."""
        for name, contents in self._contents().items():
            if contents != self.contents[name]:
                raise GradcheckError(f"fn changed {name}, its own input", input=name, cause="modifies inputs")

    def input_shapes(self) -> list[Shape]:
        return [tuple(value.shape) for value in self.inputs.values() if is_array_like(value)]

    def floats(self, out: Any) -> list[tuple[str, Any]]:
        """(path, output) of what can have a gradient in the result of fn. Raises TypeError for what may lose one."""
        found, n_leaves = [], 0
        for path, value in leaves(out):
            value, n_leaves = self._output(value), n_leaves + 1
            if not self.arrays.owns(value):
                if not path or not _carries_nothing(value):
                    raise TypeError(self._unexpected(path, value))
                continue
            dtype = dtype_name(value)
            if "complex" in dtype:
                raise TypeError(f"fn's output{path} is {dtype}; complex numbers are not checked")
            if "float" not in dtype:
                continue
            if dtype not in BY_DTYPE or BY_DTYPE[dtype].eps > self.precision.eps:
                raise TypeError(f"fn's output{path} is {dtype} for {self.dtype} inputs; something inside narrows it")
            found.append((path, value))
        if not found:
            what = "nothing" if not n_leaves else "no floating-point numbers"
            raise TypeError(f"fn returned {what}; expected {self._wanted()}")
        return found

    def _unexpected(self, path: str, value: Any) -> str:
        hint = ""
        if value is None:
            hint = "; is `return` missing?"
        elif isinstance(value, (float, np.floating)):
            hint = "; a number has no gradient: leave out float() and .item()"
        elif is_array_like(value):
            hint = f"; the inputs are {self.arrays.library}'s, and no gradient passes from one library to another"
        where = f" at out{path}" if path else ""
        return f"fn returned {described(value)}{where}; expected {self._wanted()}{hint}"

    def _wanted(self) -> str:
        return f"{self.arrays.kind}, or a list, tuple or dict of them"

    def _checkable(self, name: str) -> str:
        """The dtype of an input. TypeError if it cannot be checked."""
        dtype = dtype_name(self.inputs[name])
        if dtype not in BY_DTYPE:
            reason = "complex numbers are not checked" if "complex" in dtype else "finite differences need more digits"
            raise TypeError(f"{name} is {dtype}: {reason}; give float64, or float32")
        return dtype

    def _contents(self) -> dict[str, bytes]:
        """{name: bytes} of the arrays among the inputs."""
        contents = {}
        for name, value in self.inputs.items():
            owned = self.arrays.owns(value)
            if (owned or isinstance(value, np.ndarray)) and "complex" not in dtype_name(value):
                with suppress(TypeError, ValueError, RuntimeError):  # random keys, text, sparse tensors
                    contents[name] = (self._values(value) if owned else value.astype(np.float64)).tobytes()
        return contents


def _carries_nothing(value: Any) -> bool:
    """Whether value, beside other outputs, can be left out: nothing in it is a differentiable number."""
    if value is None or isinstance(value, (bool, int, str, bytes, np.integer, np.bool_)):
        return True
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuUS"
