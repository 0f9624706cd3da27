"""Adam, and AdamW with decoupled weight decay. The update itself is in `moments`."""

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack

import kernels
from kernels.arrays import Array, on_host
from kernels.system.printable import brief
from minigrad._tensor import Tensor
from minigrad.optim.gradient_arena import GradientArena, share_memory
from minigrad.optim.moments import FlatOfOne, Moments, Rules
from minigrad.optim.optimizer import Optimizer, evaluated, fitting, require_names
from minigrad.optim.param_groups import Group, Keywords, Params, take_keywords

_LR = 1e-3


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015). Arguments and results are PyTorch's; parameters without a gradient are left alone.

    params         see `Optimizer`
    lr, betas      the learning rate; the decay rates of both moments
    eps            added to the root of the second moment
    weight_decay   what the weights are multiplied by and added to the gradient (L2 penalty)
    amsgrad        divide by the root of the largest second moment so far (Reddi et al. 2018)
    maximize       climb instead of descending
    decoupled_weight_decay   as in AdamW
    arena          a GradientArena of some or all of these parameters, of no others, or None
    keywords       see `Keywords`
    """

    def __init__(
        self,
        params: Params,
        lr: float = _LR,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        arena: GradientArena | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        settings = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        take_keywords(type(self).__name__, settings, keywords, _LR)
        super().__init__(params, settings)
        self.arena, self._rules = arena, Rules()
        self._moments = self._make_moments()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """One more group of parameters, which are in no arena."""
        super().add_param_group(param_group)
        number = len(self.param_groups) - 1
        group = self.param_groups[number]
        try:
            self._refuse_half_of_a_tie(group["params"])
        except ValueError:
            self.param_groups.pop()
            self._own_params.pop()
            raise
        self._moments += [
            Moments(FlatOfOne(name, param), [name], [number])
            for name, param in zip(group["param_names"], group["params"], strict=True)
        ]

    def _make_moments(self) -> list[Moments]:
        own = {
            id(param): (name, param, number)
            for number, group in enumerate(self.param_groups)
            for name, param in zip(group["param_names"], group["params"], strict=True)
        }
        moments = []
        for flat in self.arena.flats if self.arena else ():
            if others := [segment.name for segment in flat.segments if id(segment.param) not in own]:
                raise ValueError(f"the arena holds {others[0]}, which is no parameter of this optimizer")
            names, _, groups = zip(*(own.pop(id(segment.param)) for segment in flat.segments), strict=True)
            moments.append(Moments(flat, names, groups))
        self._refuse_half_of_a_tie([param for _, param, _ in own.values()])
        moments += [Moments(FlatOfOne(name, param), [name], [number]) for name, param, number in own.values()]
        if self.arena:  # last: all that the parameters leave is then free in one piece, and activations fit there
            self.arena.gather()
        return moments

    def _refuse_half_of_a_tie(self, outside: Sequence[Tensor]) -> None:
        """ValueError if a parameter outside of the arena shares memory with one that the arena would move away."""
        segments = [segment for flat in self.arena.flats for segment in flat.segments] if self.arena else []
        for segment in segments:
            left = [p for p in outside if share_memory(p.data, segment.param.data)]
            if not all(any(p is tied for tied in segment.tied) for p in left):
                raise ValueError(
                    f"{segment.name} shares its data with a parameter that is not in the arena, and would leave it "
                    "behind; make the arena of all parameters of the optimizer"
                )

    def grad_norm(self) -> float | Array:
        """The norm of all gradients together: a float, or on a device a () array, so that the host does not wait."""
        spans = [each.flat.grad[span] for each in self._moments for span, *_ in each.runs()]
        return kernels.for_array(self._moments[0].m).global_norm(spans)

    def step(
        self, closure: Callable[[], Any] | None = None, *, norm: float | Array = 0.0, max_norm: float = 0.0
    ) -> Any:
        """Update all parameters that have a gradient. Returns what closure(), called before, returned.

        norm, max_norm: update as if the gradients had been clipped to max_norm before, their norm being the result of
        `grad_norm`; max_norm 0: no clipping. If the norm is not finite nothing changes, not even the step count.
        """
        loss = evaluated(closure)
        self._require_own_params()
        self._rules.update(self.param_groups)
        for each in self._moments:
            each.step(self._rules, norm, max_norm)
        return loss

    def steps_taken(self) -> int:
        """How many steps have changed something, for the parameter that has seen most. The host waits for a device."""
        return max(int(each.steps.max()) for each in self._moments)

    def state_dict(self) -> dict[str, Any]:
        """{"step": {name: int}, "m": {name: array}, "v": {name: array}, "param_groups": settings}.

        Where a group has amsgrad also "max_v": {name: array}, of its parameters. Arrays are copies, on the host.
        """
        names = {key: [name for name, _ in self.named_parameters()] for key in ("step", "m", "v")}
        found: dict[str, dict[str, Any]] = {key: {} for key in names}
        if largest := _with_amsgrad(self.param_groups):
            names["max_v"], found["max_v"] = largest, {}
        for each in self._moments:
            found["step"].update(zip(each.names, on_host(each.steps).tolist(), strict=True))
            for key in found.keys() - {"step"}:
                moment = getattr(each, key)
                array = each.m * 0 if moment is None else moment  # amsgrad, before the first step
                found[key].update({name: view.copy() for name, view in each.views(on_host(array)).items()})
        return {**{key: {name: found[key][name] for name in names[key]} for key in names}, **super().state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters.

        A state without "param_groups", as older versions made it, leaves the settings as they are.
        """
        settings, params = self._saved_settings(state_dict), dict(self.named_parameters())
        largest = _with_amsgrad(settings)
        require_names(state_dict, {"step": params, "m": params, "v": params, **({"max_v": largest} if largest else {})})
        for name, step in state_dict["step"].items():
            if not isinstance(step, numbers.Integral) or isinstance(step, bool) or not 0 <= int(step) < 1 << 63:
                raise ValueError(f"optimizer state 'step' of {name} is {brief(step)}; expected an integer, 0 or more")
        into = {name: p.data for name, p in params.items()}
        arrays = {key: fitting(state_dict[key], key, into) for key in ("m", "v", "max_v") if key in state_dict}
        self._take_settings(settings)
        for each in self._moments:
            each.set_steps({name: int(state_dict["step"][name]) for name in each.names})
            each.max_v = each.v * 0 if largest else None
            for key in arrays:
                for name, view in each.views(getattr(each, key)).items():
                    view[...] = arrays[key].get(name, 0)

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For copy and pickle: a copy's flat arrays are made anew, around its own parameters."""
        kept = {name: value for name, value in vars(self).items() if name != "_moments"}
        return kept, self.state_dict()

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        kept, moments = state
        vars(self).update(kept)
        self._moments = self._make_moments()
        self.load_state_dict(moments)


class AdamKeywords(Keywords, total=False):
    """Keywords of Adam and of AdamW."""

    maximize: bool
    arena: GradientArena | None


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): a step also scales the weights by 1 - lr * decay.

    Arguments as for `Adam`, and PyTorch's; keywords: maximize, arena, and see `Keywords`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = _LR,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **keywords: Unpack[AdamKeywords],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **keywords)


def _with_amsgrad(groups: Iterable[Group]) -> list[str]:
    return [name for group in groups if group["amsgrad"] for name in group["param_names"]]
