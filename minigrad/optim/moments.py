"""What Adam keeps of the parameters, both moments, and one step of them: by the fused kernel, or in array code."""

import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import kernels
from minigrad._tensor import Tensor
from minigrad.argument_types import Array
from minigrad.graph import mark_written
from minigrad.nn.utils import clip_factor
from minigrad.optim.gradient_arena import Flat, Segment, zeros
from minigrad.optim.optimizer import gradient_of, require_fit


def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool = False,
    max_v: Array | None = None,
    maximize: bool = False,
) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1) in place on param, m and v, all of one shape.

    step counts from 1. weight_decay is added to the gradient or, if decoupled, scales the weights (Loshchilov & Hutter
    2019). max_v: the largest v so far, updated in place, which then takes v's place (AMSGrad, Reddi et al. 2018).
    """
    if maximize:
        grad = -grad
    if weight_decay and decoupled:
        param *= 1.0 - learning_rate * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    m *= beta1
    m += (1.0 - beta1) * grad
    v *= beta2
    v += (1.0 - beta2) * grad * grad
    if max_v is not None:
        max_v[...] = np.maximum(max_v, v)
        v = max_v
    root = np.sqrt(v) / math.sqrt(1.0 - beta2**step) + eps
    param -= learning_rate / (1.0 - beta1**step) * m / root


class Rule(NamedTuple):
    """The settings of a group's step. is_fused: whether the fused kernel has it, with a weight decay per segment."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    amsgrad: bool
    maximize: bool
    is_fused: bool


class Rules:
    """The rules of all groups, for one step.

    of_groups  a Rule for each group
    decays     the weight decay of each
    kinds      for each the number of the first one with which segments of this one can be updated together
    """

    _settings = operator.itemgetter(
        "lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize"
    )

    def __init__(self) -> None:
        self._made_of: list[tuple[Any, ...]] = []

    def update(self, groups: list[dict[str, Any]]) -> None:
        """Read the groups' settings, which nearly always are those of the step before."""
        settings = [*map(self._settings, groups)]
        if settings == self._made_of:
            return
        self._made_of = [(lr, type(betas)(betas), *rest) for lr, betas, *rest in settings]  # a list may change in place
        self.of_groups = [self._rule(*each) for each in settings]
        self.decays = [rule.weight_decay for rule in self.of_groups]
        alike = [rule[:3] if rule.is_fused else rule for rule in self.of_groups]
        self.kinds = [alike.index(each) for each in alike]

    @staticmethod
    def _rule(lr: float, betas: Sequence[float], eps: float, decay: float, *flags: bool) -> Rule:
        decoupled, amsgrad, maximize = flags
        is_fused = not (amsgrad or maximize) and bool(decoupled or not decay)
        beta1, beta2 = betas
        return Rule(lr, (beta1, beta2), eps, decay, decoupled, amsgrad, maximize, is_fused)


class FlatOfOne:
    """A parameter in no arena, with the interface of an arena's `Flat` of one segment."""

    def __init__(self, name: str, param: Tensor) -> None:
        self.name, self.param, self.span, self.segments = name, param, slice(0, param.size), [self]
        self.shape, self.dtype = param.shape, param.dtype

    def gather(self) -> bool:
        """Whether there is a gradient. ValueError if the parameter has changed its shape or dtype."""
        require_fit(self.name, self.param, self.shape, self.dtype)
        return gradient_of(self.name, self.param) is not None

    @property
    def data(self) -> Array:
        return self.param.data.reshape(-1)

    @property
    def grad(self) -> Array:
        grad = gradient_of(self.name, self.param)
        assert grad is not None  # `gather` was asked before
        return grad.reshape(-1)


class Moments:
    """What Adam keeps of parameters of one dtype that lie in flat arrays: an arena's, or a single one's.

    flat      the arena's `Flat`, or a `FlatOfOne`
    names     of the segments
    groups    the number of each segment's parameter group
    m, v      both moments, laid out as `flat.data`
    max_v     the largest v so far, where a group has had amsgrad; else None
    steps     how many steps each segment has taken
    history   per segment a number that stands for the calls of `step` it has taken part in, so that segments of one
              number have taken equally many steps, though only the device knows how many: a call whose norm is not
              finite does not count. After calls for (a, b), (a), (b) of two segments the numbers are equal, then
              different for good
    """

    def __init__(self, flat: Flat | FlatOfOne, names: Sequence[str], groups: Sequence[int]) -> None:
        self.flat, self.names, self.groups = flat, names, groups
        self._segments: Sequence[Segment | FlatOfOne] = flat.segments
        self._like = flat.segments[0].param.data
        self.m, self.v = self._zeros(), self._zeros()
        self.max_v: Array | None = None
        self.steps = np.zeros(len(names), np.int64, like=self._like)  # on the device, so that the host does not wait
        self.history, self._histories = [0] * len(names), itertools.count(1)
        self._decays_of_groups: list[float] | None = None  # what `_decays` was made of

    def _zeros(self) -> Array:
        return zeros(self._segments[-1].span.stop, self._like)

    def _lay_out_decays(self, of_groups: list[float]) -> None:
        """From the groups' decays: the elements before _ends[i] and not before _ends[i - 1] decay by _decays[i]."""
        decays, like = [of_groups[group] for group in self.groups], self._like
        last = [i for i, decay in enumerate(decays) if i + 1 == len(decays) or decay != decays[i + 1]]
        self._ends = np.array([self._segments[i].span.stop for i in last], np.int64)
        self._decays = np.asarray(np.array([decays[i] for i in last], like.dtype), like=like)
        self._ends_there = np.asarray(self._ends, like=like)
        self._decays_of_groups = of_groups

    def runs(self, kinds: Sequence[int] | None = None) -> list[tuple[slice, int, int]]:
        """(span, first segment, last + 1) of neighbours with a gradient: nearly always the whole.

        kinds: a number for each group; then only such neighbours as have one number and have taken the same steps.
        """
        segments, history, groups = self._segments, self.history, self.groups
        held = [i for i, segment in enumerate(segments) if segment.gather()]
        are_alike = kinds is None or (not any(kinds) and history.count(history[0]) == len(history))
        if are_alike and len(held) == len(segments):
            return [(slice(0, segments[-1].span.stop), 0, len(held))]
        runs: list[tuple[slice, int, int]] = []
        for i in held:
            fits = kinds is None or (history[i - 1] == history[i] and kinds[groups[i - 1]] == kinds[groups[i]])
            if runs and runs[-1][2] == i and fits:
                runs[-1] = slice(runs[-1][0].start, segments[i].span.stop), runs[-1][1], i + 1
            else:
                runs.append((segments[i].span, i, i + 1))
        return runs

    def step(self, rules: Rules, norm: float | Array, max_norm: float) -> None:
        """One step of all that have a gradient, of which `norm` is the norm, by the rules of their groups."""
        longer = self._renumbering()
        if rules.decays != self._decays_of_groups:
            self._lay_out_decays(rules.decays)
        kernel_takes = self._like.dtype.itemsize >= 4  # it has no parameters of 16 bits
        for span, first, last in self.runs(rules.kinds if kernel_takes else range(len(rules.kinds))):
            rule, data = rules.of_groups[self.groups[first]], self.flat.data
            step = self.steps[first : first + 1].reshape(())
            update = self._fused_step if rule.is_fused and kernel_takes else self._plain_step
            update(data, span, step, rule, norm, max_norm)
            self.steps[first:last] = step
            self.history[first:last] = [longer[self.history[first]]] * (last - first)
            self._stepped(data, span)

    def _fused_step(
        self, data: Array, span: slice, step: Array, rule: Rule, norm: float | Array, max_norm: float
    ) -> None:
        arrays: tuple[Array, ...] = data, self.flat.grad, self.m, self.v
        ends = self._ends_there
        if span.start or span.stop != data.size:
            arrays = tuple(array[span] for array in arrays)
            ends = np.asarray(np.clip(self._ends - span.start, 0, span.stop - span.start), like=data)
        kernels.for_array(data).fused_adamw_step(
            *arrays, None, step, ends, self._decays, rule.lr, *rule.betas, rule.eps,
            np.asarray(norm, np.float64, like=self.m), max_norm,
        )  # fmt: skip

    def _plain_step(
        self, data: Array, span: slice, step: Array, rule: Rule, norm: float | Array, max_norm: float
    ) -> None:
        """In array code, for what the kernel does not have."""
        if not math.isfinite(norm := float(norm)):  # the host waits for a device
            return
        step[...] += 1
        if rule.amsgrad and self.max_v is None:
            self.max_v = self._zeros()
        grad, max_v = self.flat.grad[span], self.max_v[span] if self.max_v is not None and rule.amsgrad else None
        if max_norm > 0:
            grad = grad * clip_factor(norm, max_norm)
        setting = rule.lr, *rule.betas, rule.eps, rule.weight_decay, rule.decoupled
        adam_step(data[span], grad, self.m[span], self.v[span], int(step), *setting, max_v, rule.maximize)

    def _stepped(self, data: Array, span: slice) -> None:
        mark_written(data[span])
        param = self._segments[0].param
        if not param.data.flags.c_contiguous:  # then `data` is a copy; in an arena all parameters are contiguous
            param.data[...] = data.reshape(param.shape)
            mark_written(param.data)

    def _renumbering(self) -> defaultdict[int, int]:
        """A dict that gives each key a new number for a history."""
        return defaultdict(self._histories.__next__)

    def set_steps(self, counts: dict[str, int]) -> None:
        """Let each segment have taken so many steps: {name: int}."""
        histories = self._renumbering()
        self.history = [histories[counts[name]] for name in self.names]
        steps = np.array([counts[name] for name in self.names], np.int64)
        self.steps[...] = np.asarray(steps, like=self.steps)

    def views(self, moment: Array) -> dict[str, Array]:
        """{name: view of m, v or max_v with the parameter's shape}."""
        segments = zip(self.names, self._segments, strict=True)
        return {name: moment[segment.span].reshape(segment.param.shape) for name, segment in segments}
