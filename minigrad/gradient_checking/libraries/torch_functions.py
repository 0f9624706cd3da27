"""Functions of PyTorch's tensors. As in `torch.autograd.gradcheck`, inputs that require a gradient are checked."""

import re
from contextlib import contextmanager

from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.results import GradcheckError


class TorchProbe(Probe):
    """fn gets the tensors themselves, their `data` replaced, so that the parameters of a module can be checked."""

    def _is_checked(self, value):
        return self.arrays.owns(value) and value.requires_grad

    def _checkable(self, name):
        if (layout := self.inputs[name].layout) != self.arrays.torch.strided:
            raise TypeError(f"{name} is {str(layout).removeprefix('torch.')}; expected a strided tensor")
        return super()._checkable(name)

    def _nothing_to_check(self):
        return "nothing to check: no input requires a gradient; call requires_grad_() on those to be checked"

    def _call(self):
        with self.arrays.torch.enable_grad():
            return super()._call()

    def _replace(self, name, values):
        tensor = self.inputs[name]
        before, tensor.data = tensor.data, self.arrays.like(values, tensor)

        def back():
            tensor.data = before

        return back

    @contextmanager
    def own_memory(self):
        backs = [self._replace(name, x) for name, x in self.checked.items()]
        try:
            yield
        finally:
            for back in reversed(backs):
                back()

    def _vjp(self, upstream):
        torch = self.arrays.torch
        outs = self.floats(self._call())
        self.detached = [path for path, out in outs if not out.requires_grad]
        pairs = [
            (out, self.arrays.like(u, out)) for (_, out), u in zip(outs, upstream, strict=True) if out.requires_grad
        ]
        if not pairs:
            self.linked = False
            return dict.fromkeys(self.checked)
        outs, douts = zip(*pairs, strict=True)
        before = [dout.clone() for dout in douts]
        tensors = [self.inputs[name] for name in self.checked]
        try:
            grads = torch.autograd.grad(outs, tensors, douts, allow_unused=True)
        except RuntimeError as error:
            if not re.search("returned an (invalid|incorrect number of) gradient", str(error)):
                raise
            raise GradcheckError(str(error).splitlines()[0], cause="shape") from error
        if not all(map(torch.equal, douts, before)):
            raise GradcheckError("backward changed its upstream gradient, which is not its own", cause="modifies dout")
        self.linked = any(grad is not None for grad in grads)
        return dict(zip(self.checked, grads, strict=True))
