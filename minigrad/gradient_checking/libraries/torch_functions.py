"""Functions of PyTorch's tensors. As in `torch.autograd.gradcheck`, inputs that require a gradient are checked."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.gradient_checking.arrays import TorchTensors
from minigrad.gradient_checking.probe import Gradients, Probe
from minigrad.gradient_checking.results import GradcheckError
from minigrad.gradient_checking.structures import with_article

#: of an error of `torch.autograd.grad`: (what it says, what gradcheck says, the cause); PyTorch's words where None
_ERRORS = (
    (r"returned an (invalid|incorrect number of) gradient", None, "shape"),
    (r"expected Variable or None \(got (?P<type>[\w.]+)\)", "backward returned {type}; expected a torch.Tensor or None "
     "for each input", "type"),
    (r"modified by an inplace operation", "what was saved for backward was written into after that: by fn, or by "
     "backward itself, which gradcheck calls twice", "modifies inputs"),
)  # fmt: skip


class TorchProbe(Probe):
    """fn gets the tensors themselves, their `data` replaced, so that the parameters of a module can be checked."""

    arrays: TorchTensors

    def _is_checked(self, value: Any) -> bool:
        return self.arrays.owns(value) and value.requires_grad

    def _checkable(self, name: str) -> str:
        if (layout := self.inputs[name].layout) != self.arrays.torch.strided:
            raise TypeError(f"{name} is {str(layout).removeprefix('torch.')}; expected a strided tensor")
        return super()._checkable(name)

    def _nothing_to_check(self) -> str:
        return "nothing to check: no input requires a gradient; call requires_grad_() on those to be checked"

    def _call(self) -> Any:
        try:
            with self.arrays.torch.enable_grad():
                return super()._call()
        except RuntimeError as error:
            if "a leaf Variable that requires grad" in str(error):
                error.add_note(
                    "gradcheck hands the tensors themselves to fn; for a function that writes into its input give "
                    "lambda x: fn(x.clone())"
                )
            raise

    def _replace(self, name: str, values: np.ndarray) -> Callable[[], None]:
        tensor = self.inputs[name]
        before, tensor.data = tensor.data, self.arrays.like(values, tensor)

        def back() -> None:
            tensor.data = before

        return back

    @contextmanager
    def own_memory(self) -> Iterator[None]:
        backs = [self._replace(name, x) for name, x in self.checked.items()]
        try:
            yield
        finally:
            for back in reversed(backs):
                back()

    def _vjp(self) -> Callable[[list[np.ndarray]], Gradients]:
        torch, found = self.arrays.torch, self.floats(self._call())
        self.detached = [path for path, out in found if not out.requires_grad]
        outs = [out for _, out in found]
        tensors = [self.inputs[name] for name in self.checked]

        def vjp(upstream: list[np.ndarray]) -> Gradients:
            pairs = [
                (out, self.arrays.like(u, out)) for out, u in zip(outs, upstream, strict=True) if out.requires_grad
            ]
            if not pairs:
                self.linked = False
                return dict.fromkeys(self.checked)
            roots, douts = zip(*pairs, strict=True)
            before = [dout.clone() for dout in douts]
            try:
                grads = torch.autograd.grad(roots, tensors, douts, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                raise _explained(error) from error
            if not all(map(torch.equal, douts, before)):
                what = "backward changed its upstream gradient, which is not its own"
                raise GradcheckError(what, cause="modifies dout")
            self.linked = any(grad is not None for grad in grads)
            return dict(zip(self.checked, grads, strict=True))

        return vjp


def _explained(error: RuntimeError) -> Exception:
    """The GradcheckError for what a backward function did wrong, in one line; the error itself for all else."""
    for pattern, words, cause in _ERRORS:
        if match := re.search(pattern, str(error)):
            named = {name: with_article(value) for name, value in match.groupdict().items()}
            return GradcheckError(words.format(**named) if words else str(error).splitlines()[0], cause=cause)
    return error
