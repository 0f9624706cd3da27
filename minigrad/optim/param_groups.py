"""Parameter groups: what an optimizer takes as `params`, and the settings of each group, both checked."""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypedDict

import numpy as np

from kernels.system.printable import brief, did_you_mean, one_line
from minigrad._tensor import Tensor
from minigrad.nn import Embedding, Module

Group: TypeAlias = dict[str, Any]
#: Parameters, or (name, Parameter) pairs, or groups {"params": either of these, "lr": ...}
Params: TypeAlias = Iterable[Tensor | tuple[str, Tensor] | Mapping[str, Any]]


class Keywords(TypedDict, total=False):
    """Keywords of every optimizer beside its settings."""

    foreach: bool | None  # how PyTorch goes through the parameters; without effect here
    fused: bool | None  # the same
    capturable: bool  # what only PyTorch has: True is refused
    differentiable: bool
    learning_rate: float  # the older spelling of lr


# keys of a group that are no settings of a step: what it holds, a name for people, and what PyTorch's schedulers keep
_NOT_SETTINGS = ("params", "param_names", "name", "initial_lr")
_WITHOUT_EFFECT, _ABSENT = ("foreach", "fused"), ("capturable", "differentiable")
_OLDER = {"learning_rate": "lr"}  # an older spelling -> the setting


def decay_groups(model: Module, weight_decay: float) -> list[Group]:
    """Two groups: matrices decay, and neither embeddings nor anything one-dimensional does.

    Decay pulls weights towards zero, which is no prior for a bias, a norm's scale, or the vector of a token
    that is rarely seen.
    """
    embeddings = {id(module.weight) for _, module in model.named_modules() if isinstance(module, Embedding)}
    decay: dict[str, Tensor] = {}
    keep: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        (keep if parameter.ndim < 2 or id(parameter) in embeddings else decay)[name] = parameter
    return [
        {"name": "decay", "params": decay, "weight_decay": weight_decay},
        {"name": "no decay", "params": keep, "weight_decay": 0.0},
    ]


def as_groups(params: Params) -> list[Group]:
    """The groups that an optimizer's `params` stand for: themselves, or one group of all parameters."""
    if isinstance(params, (Tensor, Module, str, bytes, dict)) or not isinstance(params, Iterable):
        hints = {Tensor: "[parameter]", Module: "model.parameters()", dict: "a list of groups, or named.items()"}
        hint = next((hint for kind, hint in hints.items() if isinstance(params, kind)), "model.parameters()")
        raise TypeError(
            f"params is a {type(params).__name__}; expected Parameters, (name, Parameter) pairs or a list of groups: "
            f"give {hint}"
        )
    _refuse_unordered(params)
    groups: list[Any] = list(params)
    if not groups:
        raise ValueError("an optimizer needs at least one parameter; params is empty")
    if not isinstance(groups[0], Mapping):
        return [{"name": "all", "params": groups}]
    return [{"name": str(i), **require_group(group)} for i, group in enumerate(groups)]


def require_group(group: Any) -> Group:
    """The group, if it is one. TypeError or ValueError otherwise."""
    if not isinstance(group, Mapping):
        raise TypeError(f"a parameter group is {brief(group)}; expected a dict with the key 'params'")
    if "params" not in group:
        raise ValueError(f"a parameter group has the keys {', '.join(map(one_line, group))}; 'params' is missing")
    return dict(group)


def named_parameters(group: Group, index: int) -> dict[str, Tensor]:
    """{name: Parameter} of group number `index`. Those without a name are called "index.0", "index.1" and so on."""
    params = group["params"]
    if isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, dict):
        params = params.items()
    elif isinstance(params, (str, bytes)) or not isinstance(params, Iterable):
        raise TypeError(f"'params' of a parameter group is {brief(params)}; expected a list of Parameters")
    _refuse_unordered(params)
    params = list(params)
    are_pairs = [isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in params]
    if any(are_pairs) and not all(are_pairs):
        raise ValueError("some parameters have names and others have none; give names to all or to none")
    if "param_names" in group and not any(are_pairs):
        pairs = list(zip(group["param_names"], params, strict=True))
    else:
        pairs = params if any(are_pairs) else [(f"{index}.{i}", each) for i, each in enumerate(params)]
    for name, parameter in pairs:
        _require_leaf(name, parameter)
    _require_unique(pairs)
    return dict(pairs)


def _refuse_unordered(params: object) -> None:
    if isinstance(params, (set, frozenset)):
        raise TypeError("the parameters are in a set, whose order changes from run to run; give a list")


def _require_leaf(name: str, parameter: object) -> None:
    if not isinstance(parameter, Tensor):
        raise TypeError(f"parameter {one_line(name)} is {brief(parameter)}; an optimizer takes Parameters")
    if parameter.node is not None:
        raise ValueError(
            f"parameter {one_line(name)} is no leaf: {parameter.node.op} made it, so it gets no gradient; give the "
            "Parameters that it was computed from, or .detach() it"
        )


def _require_unique(pairs: Iterable[tuple[str, Tensor]]) -> None:
    """ValueError if a parameter, or a name, stands twice among (name, Parameter) pairs."""
    names: set[str] = set()
    ids: dict[int, str] = {}
    for name, parameter in pairs:
        if id(parameter) in ids:
            raise ValueError(f"{ids[id(parameter)]} stands twice in the optimizer's groups, also as {one_line(name)}")
        if name in names:
            raise ValueError(f"two parameters are named {one_line(name)}; a name may not stand twice in the groups")
        names.add(name)
        ids[id(parameter)] = one_line(name)


def require_disjoint(groups: Iterable[Group]) -> None:
    """ValueError if a parameter or a name stands in two groups."""
    _require_unique([pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)])


# ------------------------------------------------------------------------------------------- settings


def take_keywords(optimizer: str, settings: dict[str, Any], keywords: Mapping[str, Any], default_lr: float) -> None:
    """Check `Keywords`, and put learning_rate into the settings as "lr". TypeError for any other keyword."""
    for key, value in keywords.items():
        if key not in Keywords.__annotations__:
            known = [*settings, *Keywords.__annotations__]
            raise TypeError(f"{optimizer} got an unexpected keyword argument {key!r}{did_you_mean(key, known)}")
        if key in _OLDER:
            if settings["lr"] != default_lr:
                raise TypeError("learning_rate is an older spelling of lr; give one of them")
            settings[_OLDER[key]] = value
    check_settings(keywords)


def completed(group: Group, defaults: Mapping[str, Any]) -> Group:
    """The group with the default of every setting that it lacks, checked."""
    renamed = {_OLDER.get(key, key): value for key, value in group.items()}
    if len(renamed) < len(group):
        raise ValueError("a parameter group has both lr and learning_rate, an older spelling of it; give one of them")
    for key in renamed:
        if key not in defaults and key not in (*_NOT_SETTINGS, *_WITHOUT_EFFECT, *_ABSENT):
            hint = did_you_mean(str(key), [*defaults, *_OLDER]) or f"; there are {', '.join(defaults)}"
            raise ValueError(f"a parameter group has the unknown key {brief(key)}{hint}")
    whole = {**renamed, **{key: value for key, value in defaults.items() if key not in renamed}}
    check_settings(whole)
    return whole


def check_settings(settings: Mapping[str, Any]) -> None:
    """TypeError or ValueError in one line for a setting that no optimizer can work with."""
    for key in ("lr", "weight_decay", "eps", "momentum"):
        if key in settings and not _number(key, settings[key]) >= 0.0:  # not for NaN either
            raise ValueError(f"{key} is {settings[key]}; expected a number that is not negative")
    if "dampening" in settings and math.isnan(_number("dampening", settings["dampening"])):
        raise ValueError("dampening is nan; expected a number")
    if "betas" in settings:
        betas = settings["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas is {brief(betas)}; expected a pair of numbers")
        if not all(0.0 <= _number("betas", beta) < 1.0 for beta in betas):
            raise ValueError(f"betas is {betas}; both must lie in [0, 1)")
    for key in ("amsgrad", "maximize", "nesterov", "decoupled_weight_decay"):
        if key in settings and settings[key] not in (False, True):
            raise TypeError(f"{key} is {brief(settings[key])}; expected True or False")
    for key in _WITHOUT_EFFECT:
        if settings.get(key) not in (None, False, True):
            raise TypeError(f"{key} is {brief(settings[key])}; expected True, False or None")
    for key in _ABSENT:
        if settings.get(key):
            raise TypeError(f"{key} is {brief(settings[key])}; only PyTorch's own optimizers have that, leave it out")
    if settings.get("nesterov") and (not settings["momentum"] or settings["dampening"]):
        raise ValueError(
            f"nesterov needs a momentum above 0 and no dampening; momentum is {settings['momentum']}, dampening "
            f"{settings['dampening']}"
        )


def _number(key: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{key} is {brief(value)}; expected a number")
    return float(value)
