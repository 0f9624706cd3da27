"""Stochastic gradient descent."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

import numpy as np

from minigrad._tensor import Tensor
from minigrad.argument_types import Array
from minigrad.graph import mark_written
from minigrad.optim.optimizer import Optimizer, evaluated, fitting, gradient_of, require_fit, require_names
from minigrad.optim.param_groups import Group, Keywords, Params, take_keywords

_LR = 1e-3
_SETTINGS = operator.itemgetter("lr", "momentum", "weight_decay", "dampening", "nesterov", "maximize")


def sgd_step(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    dampening: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """One step of gradient descent in place; weight_decay adds to the gradient, as in PyTorch's SGD.

    momentum_buffer: array like param, updated in place, zeros before the first step, for which dampening must be 0;
    None without momentum. nesterov: the step looks ahead along the momentum (Sutskever et al. 2013).
    """
    if maximize:
        grad = -grad
    if weight_decay:
        grad = grad + weight_decay * param
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += (1.0 - dampening) * grad if dampening else grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    param -= learning_rate * grad


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted. Arguments and results are PyTorch's.

    params: see `Optimizer`. lr: the learning rate. weight_decay: what the weights are multiplied by and added to the
    gradient. dampening: the momentum takes up only 1 - dampening of a gradient, except of the first. nesterov: see
    `sgd_step`. maximize: climb. keywords: see `Keywords`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = _LR,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **keywords: Unpack[Keywords],
    ) -> None:
        settings = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        take_keywords("SGD", settings, keywords, _LR)
        super().__init__(params, settings)
        self._buffers: dict[str, Array] = {}  # name -> momentum, from the parameter's first step on

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. Returns what closure(), called before, returned."""
        loss = evaluated(closure)
        self._require_own_params()
        for group in self.param_groups:
            lr, momentum, decay, dampening, nesterov, maximize = _SETTINGS(group)
            for name, p in zip(group["param_names"], group["params"], strict=True):
                grad = gradient_of(name, p)
                if grad is None:
                    continue
                data = p.data
                buffer, is_first = self._buffer(name, p) if momentum else (None, True)
                sgd_step(data, grad, buffer, lr, momentum, decay, 0.0 if is_first else dampening, nesterov, maximize)
                mark_written(data)
        return loss

    def _buffer(self, name: str, parameter: Tensor) -> tuple[Array, bool]:
        """A parameter's momentum, and whether it is new."""
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = self._buffers[name] = np.zeros_like(parameter.data)
            return buffer, True
        require_fit(name, parameter, buffer.shape, buffer.dtype)
        return buffer, False

    def state_dict(self) -> dict[str, Any]:
        """{"momentum": {name: array}, "param_groups": settings}; arrays are copies, None before the first step."""
        buffers = {name: self._buffers.get(name) for name in _with_momentum(self.param_groups)}
        copies = {name: None if buffer is None else buffer.copy() for name, buffer in buffers.items()}
        return {"momentum": copies, **super().state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters."""
        settings = self._saved_settings(state_dict)
        require_names(state_dict, {"momentum": _with_momentum(settings)})
        begun = {name: array for name, array in state_dict["momentum"].items() if array is not None}
        arrays = fitting(begun, "momentum", {name: p.data for name, p in self.named_parameters()})
        self._take_settings(settings)
        self._buffers = {name: array.copy() for name, array in arrays.items()}


def _with_momentum(groups: Iterable[Group]) -> list[str]:
    return [name for group in groups if group["momentum"] for name in group["param_names"]]
