"""What all optimizers share: parameter groups, their settings, and the rules for loading a state."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from kernels.arrays import Array, Shape, as_array, is_array
from kernels.system.printable import brief, one_line
from minigrad._tensor import Tensor
from minigrad.graph import thread
from minigrad.nn.state import copyable, misfit
from minigrad.optim.param_groups import (
    Group,
    Params,
    as_groups,
    check_settings,
    completed,
    named_parameters,
    require_disjoint,
    require_group,
)


class Optimizer:
    """Base of all optimizers: groups of named parameters with settings of their own, as in PyTorch.

    params        Parameters, (name, Parameter) pairs, or groups {"params": either, "lr": ..., "weight_decay": ...}
    defaults      {setting: value} for groups that do not give it; a key that is in neither is refused

    param_groups  a list of dicts: "params", a list; "param_names"; "name"; and every setting, which the next step reads

    Raises TypeError or ValueError, in one line, for anything else: no parameters, a tensor that is no leaf, one that
    stands twice, a setting that does not exist.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        check_settings(defaults)
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._own_params: list[list[Tensor]] = []  # of each group, to notice changes of its list
        for group in as_groups(params):
            self._append(group)
        if not self.named_parameters():
            raise ValueError("an optimizer needs at least one parameter; all of its groups are empty")

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """One more group of parameters, for instance of layers that were left out at first."""
        self._append({"name": str(len(self.param_groups)), **require_group(param_group)})

    def _append(self, group: Group) -> None:
        named = named_parameters(group, len(self.param_groups))
        whole = completed({**group, "params": list(named.values()), "param_names": list(named)}, self.defaults)
        require_disjoint([*self.param_groups, whole])
        self.param_groups.append(whole)
        self._own_params.append([*whole["params"]])

    def _require_own_params(self) -> None:
        """ValueError if a group's list of parameters was changed: the optimizer has a state for each of them."""
        for i, (group, own) in enumerate(zip(self.param_groups, self._own_params, strict=True)):
            params = group["params"]
            if len(params) != len(own) or not all(map(operator.is_, params, own)):
                raise ValueError(
                    f"the list of parameters of group {i} has been changed; parameters join an optimizer by "
                    "add_param_group, and to leave out or replace some, make a new optimizer"
                )

    @property
    def learning_rate(self) -> float:
        """The learning rate of all groups, an older spelling of "lr" in `param_groups`; setting it sets it in each.

        ValueError if the groups have different ones.
        """
        rates = {group["lr"] for group in self.param_groups}
        if len(rates) > 1:
            raise ValueError(f"the groups have {len(rates)} learning rates; see 'lr' in each of param_groups")
        return rates.pop()

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """(name, Parameter) of all groups."""
        return [pair for group in self.param_groups for pair in zip(group["param_names"], group["params"], strict=True)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; with set_to_none=False each becomes a new array of zeros."""
        for _, parameter in self.named_parameters():
            parameter.grad = None if set_to_none or parameter.grad is None else np.zeros_like(parameter.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. Returns what closure(), called before, returned."""
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    def state_dict(self) -> dict[str, Any]:
        """{"param_groups": the settings of each group and the names of its parameters}, and more in subclasses."""
        return {"param_groups": [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters."""
        settings = self._saved_settings(state_dict)
        require_names(state_dict, {})
        self._take_settings(settings)

    def _saved_settings(self, state: Mapping[str, Any]) -> list[Group]:
        """The groups' settings in a state, checked; those of now for a state of an older version, which has none."""
        if not isinstance(state, Mapping):
            raise TypeError(f"an optimizer's state is {brief(state)}; expected a dict, as state_dict() gives it")
        saved = state.get("param_groups", self.param_groups)
        if not isinstance(saved, list) or len(saved) != len(self.param_groups):
            given = f"{len(saved)} parameter groups" if isinstance(saved, list) else brief(saved)
            raise ValueError(f"optimizer state 'param_groups' is {given}; expected {len(self.param_groups)} groups")
        for own, other in zip(self.param_groups, saved, strict=True):
            missing = [key for key in ("param_names", *self.defaults) if key not in other]
            if missing:
                raise ValueError(f"optimizer state 'param_groups' lacks {', '.join(missing)} in a group")
            if wrong := set(own["param_names"]) ^ set(other["param_names"]):
                which = ", ".join(sorted(map(one_line, wrong)))
                raise ValueError(f"optimizer state 'param_groups' does not fit these parameters: {which}")
            check_settings(other)
        return saved

    def _take_settings(self, settings: Iterable[Mapping[str, Any]]) -> None:
        for own, other in zip(self.param_groups, settings, strict=True):
            own.update({key: value for key, value in other.items() if key not in ("params", "param_names")})

    def describe(self) -> str:
        """A table of the groups: which parameters decay, and how many numbers that is."""
        lines = []
        for group in self.param_groups:
            sizes = [parameter.size for parameter in group["params"]]
            head = f"{group['name']:<10} weight_decay {group['weight_decay']:<8g}"
            lines.append(f"{head}{len(sizes):>4} tensors {sum(sizes):>12,} numbers")
            named = zip(group["param_names"], group["params"], strict=True)
            lines += [f"    {name:<44} {parameter.shape}" for name, parameter in named]
        return "\n".join(lines)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            settings = sorted(key for key in group if key not in ("params", "param_names"))
            lines += [f"Parameter Group {i}", *(f"    {key}: {group[key]}" for key in settings)]
        return "\n".join([*lines, ")"])


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """closure(), which computes the loss and its gradients anew, inside of `no_grad` too; None without one."""
    if closure is None:
        return None
    if not callable(closure):
        raise TypeError(f"closure is {brief(closure)}; expected a function without arguments that returns the loss")
    before, thread.recording = thread.recording, True
    try:
        return closure()
    finally:
        thread.recording = before


def gradient_of(name: str, parameter: Tensor) -> Array | None:
    """The array of a parameter's gradient, in the parameter's dtype; None without one. ValueError for another shape."""
    grad, data = parameter.grad, parameter.data
    if grad is None or (type(grad) is type(data) and grad.shape == data.shape and grad.dtype == data.dtype):
        return grad
    grad = as_array(grad.data if isinstance(grad, Tensor) else grad)
    if not is_array(grad):
        raise TypeError(f"the gradient of {name} is {brief(grad)}; expected an array")
    if grad.shape != parameter.shape:
        raise ValueError(f"the gradient of {name} is {grad.shape}, the parameter {parameter.shape}")
    return grad.astype(parameter.dtype, copy=False)


def require_fit(name: str, parameter: Tensor, shape: Shape, dtype: np.dtype[Any]) -> None:
    """ValueError if the parameter has changed its shape or dtype, or cannot be written to."""
    if (parameter.shape, parameter.dtype) != (shape, dtype):
        raise ValueError(
            f"{name} is now {parameter.shape} {parameter.dtype}, but the optimizer was made for {shape} {dtype}; make "
            "a new optimizer after changing parameters"
        )
    if not getattr(parameter.data.flags, "writeable", True):
        raise ValueError(f"{name} is read-only; give the parameter a copy of the array")


def require_names(state: Mapping[str, Any], expected: Mapping[str, Iterable[str]]) -> None:
    """ValueError unless a state is {key: {name: ...}} for just these keys and names, beside "param_groups"."""
    if wrong := (set(state) - {"param_groups"}) ^ set(expected):
        raise ValueError(
            f"optimizer state has or lacks {', '.join(sorted(map(one_line, wrong)))}; expected {', '.join(expected)}"
        )
    for key, names in expected.items():
        if wrong := set(state[key]) ^ set(names):
            which = ", ".join(sorted(map(one_line, wrong)))
            raise ValueError(f"optimizer state {key!r} does not fit these parameters: {which}")


def fitting(arrays: Mapping[str, Any], key: str, into: Mapping[str, Array]) -> dict[str, Array]:
    """{name: array} ready to be copied into the arrays `into`. ValueError naming the first that does not fit."""
    for name, array in arrays.items():
        if problem := misfit(array, into[name]):
            raise ValueError(f"optimizer state {key!r} of {name} {problem}")
    return {name: copyable(array, into[name]) for name, array in arrays.items()}
