"""Functions of minigrad Tensors, in float64."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from kernels.arrays import is_array, on_host
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array
from minigrad.gradient_checking.arrays import MinigradTensors
from minigrad.gradient_checking.misfit import misfit
from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.results import GradcheckError
from minigrad.recording import gradients_aside, no_grad


class MinigradProbe(Probe):
    """Float arrays become Tensors of float64; a float64 Tensor is handed to fn itself, its `data` replaced."""

    has_same_bits = True

    def __init__(self, fn: Callable[..., Any], inputs: dict[str, Any]) -> None:
        self.made_tensors = False
        super().__init__(fn, inputs, MinigradTensors())

    def _prepared(self, name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.requires_grad and value.dtype != np.float64:
                raise TypeError(f"{name} is {value.dtype}; a gradient check needs float64 (module.astype(np.float64))")
            return value
        if not isinstance(value, (np.ndarray, np.generic, float, list, tuple)):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f":
            self.made_tensors = True
            return Tensor(array.astype(np.float64), requires_grad=True)
        return array if isinstance(value, (list, tuple)) and array.dtype.kind in "biu" else value

    def _is_checked(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.requires_grad

    def _values(self, value: Any) -> np.ndarray:
        return on_host(value.data)  # not a copy: models are large

    def _nothing_to_check(self) -> str:
        return "nothing to check: no input is a float array or a float64 Tensor that requires a gradient"

    def _call(self) -> Any:
        with no_grad():
            return super()._call()

    def _called_with(self) -> str:
        if not self.made_tensors:
            return super()._called_with()
        return (
            "gradcheck called fn with minigrad Tensors, made of the NumPy arrays that were given; to check a function "
            "of another library give that library's tensors, of plain arrays a pair (forward, vjp)"
        )

    def _replace(self, name: str, values: np.ndarray) -> Callable[[], None]:
        tensor = self.inputs[name]
        before = tensor.data
        tensor.data = values if isinstance(before, np.ndarray) else np.asarray(values, like=before)

        def back() -> None:
            tensor.data = before

        return back

    def pull(self, upstreams: Iterable[list[np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """Backward, from one forward pass; the guard looks at every backward function."""
        tensors = {name: self.inputs[name] for name in self.checked}
        observer, graph.observer = graph.observer, _BackwardGuard(tensors)
        try:
            with gradients_aside(tensors.values()), _no_backward_of_another_library():
                outs = self.floats(super()._call())
            self.refuse_other_values([out for _, out in outs])
            self.detached = [path for path, out in outs if not out.requires_grad]
            leaves = {id(leaf): leaf for _, out in outs if out.node for leaf in graph.leaves(out.node)}
            leaves |= {id(out): out for _, out in outs if out.requires_grad and out.node is None}
            self.linked = any(id(tensor) in leaves for tensor in tensors.values())
            leaves |= {id(tensor): tensor for tensor in tensors.values()}
            for upstream in upstreams:
                with gradients_aside(leaves.values()):  # parameters inside fn are among them
                    for (_, out), u in zip(outs, upstream, strict=True):
                        if out.requires_grad:
                            out.backward(u, retain_graph=True)
                    grads = {name: tensor.grad for name, tensor in tensors.items()}
                yield {
                    n: np.zeros(x.shape) if grads[n] is None else np.array(on_host(grads[n]))
                    for n, x in tensors.items()
                }
        finally:
            graph.observer = observer


class _BackwardGuard:
    """A graph.observer: raises where a backward function changes its arguments or returns a wrong shape or dtype."""

    def __init__(self, checked: dict[str, Tensor]) -> None:
        self.names = {id(tensor): name for name, tensor in checked.items()}
        self.before: list[tuple[str, Array, Array]] = []

    def __call__(self, node: graph.Node, dout: Array, grads: tuple[Array | None, ...] | None) -> None:
        if grads is None:
            arrays = [("dout", dout), *((k, v) for k, v in node.saved.items() if is_array(v))]
            self.before = [(name, array, array.copy()) for name, array in arrays]
            return
        for name, array, copy in self.before:
            if on_host(array).tobytes() != on_host(copy).tobytes():
                cause = "modifies dout" if name == "dout" else "modifies inputs"
                raise GradcheckError(f"{node.op}_backward changed {name}, which is not its own", cause=cause)
        for i, (parent, grad) in enumerate(zip(node.parents, grads, strict=False)):
            if parent is None or grad is None or (grad.shape == parent.shape and grad.dtype == parent.dtype):
                continue
            checked = self.names.get(id(parent))
            raise misfit(f"{node.op}_backward", checked, checked or f"parent {i}", grad, parent, [dout.shape])


@contextmanager
def _no_backward_of_another_library() -> Iterator[None]:
    """GradcheckError for an operation that is recorded inside of `torch.autograd.Function.apply`.

    PyTorch hands Tensors of ours through to forward and calls backward never; the gradient would be that of forward.
    """
    before = graph.thread.record_calls

    def look(frame: FrameType, out: Array) -> Any:
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_globals.get("__name__") == "torch.autograd.function":
                raise GradcheckError(
                    "fn calls a torch.autograd.Function with minigrad Tensors, and PyTorch would never call its "
                    "backward; give gradcheck torch tensors",
                    cause="other library",
                )
            outer = outer.f_back
        return before(frame, out) if before is not None else None

    if "torch" in sys.modules:
        graph.thread.record_calls = look
    try:
        yield
    finally:
        graph.thread.record_calls = before
