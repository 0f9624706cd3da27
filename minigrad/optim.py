"""Optimizers. The update rules are functions of arrays; the classes hold the arrays and call them.

AdamW works on parameters as they are, each `p.data` looked up when the step begins. Given a `GradientArena`, as the
Trainer gives it one, it updates all parameters, clipping included, in one pass over flat arrays.
"""

import itertools
import math
import numbers
from collections import defaultdict

import numpy as np

import kernels
from kernels.arrays import on_host
from kernels.system.printable import brief, one_line
from minigrad.gradient_arena import GradientArena, grouped, share_memory, zeros
from minigrad.graph import mark_written
from minigrad.nn import Embedding, copyable, misfit

__all__ = ["SGD", "AdamW", "GradientArena", "Optimizer", "clip_factor", "clip_grad_norm_", "decay_groups", "sgd_step"]


def decay_groups(model, weight_decay):
    """Two groups: matrices decay, and neither embeddings nor anything one-dimensional does.

    Decay pulls weights towards zero, which is no prior for a bias, a norm's scale, or the vector of a token
    that is rarely seen.
    """
    embeddings = {id(module.weight) for _, module in model.named_modules() if isinstance(module, Embedding)}
    decay, keep = {}, {}
    for name, parameter in model.named_parameters():
        (keep if parameter.ndim < 2 or id(parameter) in embeddings else decay)[name] = parameter
    return [
        {"name": "decay", "params": decay, "weight_decay": weight_decay},
        {"name": "no decay", "params": keep, "weight_decay": 0.0},
    ]


class Optimizer:
    """What all optimizers share: groups of named parameters, and a learning rate that a scheduler may set.

    params: Parameters, (name, Parameter) pairs, or groups `{"name", "params", "weight_decay"}` as
    `decay_groups` makes them. Raises ValueError if there are none, or one stands in two groups.
    """

    def __init__(self, params, learning_rate, weight_decay):
        if learning_rate < 0.0 or weight_decay < 0.0:
            raise ValueError(f"learning_rate {learning_rate} and weight_decay {weight_decay} must not be negative")
        self.learning_rate = learning_rate
        self.groups = grouped(params, weight_decay)

    def named_parameters(self):
        """(name, Parameter) of all groups."""
        return [item for group in self.groups for item in group["params"].items()]

    def zero_grad(self):
        """Forget all gradients."""
        for _, parameter in self.named_parameters():
            parameter.zero_grad()

    def describe(self):
        """A table of the groups: which parameters decay, and how many numbers that is."""
        lines = []
        for group in self.groups:
            sizes = [parameter.size for parameter in group["params"].values()]
            head = f"{group['name']:<10} weight_decay {group['weight_decay']:<8g}"
            lines.append(f"{head}{len(sizes):>4} tensors {sum(sizes):>12,} numbers")
            lines += [f"    {name:<44} {parameter.shape}" for name, parameter in group["params"].items()]
        return "\n".join(lines)


class _FlatOfOne:
    """A parameter in no arena, with the interface of an arena's `Flat` of one segment."""

    def __init__(self, name, param):
        self.name, self.param, self.span, self.segments = name, param, slice(0, param.size), [self]
        self.shape, self.dtype = param.shape, param.dtype

    def gather(self):
        """Whether there is a gradient. ValueError if the parameter has changed its shape or dtype."""
        param, grad = self.param, self.param.grad
        if (param.shape, param.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"{self.name} is now {param.shape} {param.dtype}, but the optimizer was made for "
                f"{self.shape} {self.dtype}; make a new optimizer after changing parameters"
            )
        if not getattr(param.data.flags, "writeable", True):
            raise ValueError(f"{self.name} is read-only; give the parameter a copy of the array")
        if grad is not None and grad.shape != self.shape:
            raise ValueError(f"the gradient of {self.name} is {grad.shape}, the parameter {self.shape}")
        return grad is not None

    data = property(lambda self: self.param.data.reshape(-1))
    grad = property(lambda self: self.param.grad.reshape(-1).astype(self.dtype, copy=False))


class _Moments:
    """What AdamW keeps of parameters of one dtype that lie in flat arrays: an arena's, or a single one's.

    flat      the arena's `Flat`, or a `_FlatOfOne`
    m, v      both moments, laid out as `flat.data`
    steps     how many steps each segment has taken
    history   per segment a number that stands for the calls of `step` it has taken part in, so that segments of one
              number have taken equally many steps, though only the device knows how many: a call whose norm is not
              finite does not count. After calls for (a, b), (a), (b) of two segments the numbers are equal, then
              different for good
    """

    def __init__(self, flat, names, decays):
        like = flat.segments[0].param.data
        self.flat, self.names = flat, names
        size = flat.segments[-1].span.stop
        self.m, self.v = zeros(size, like), zeros(size, like)
        self.steps = np.zeros(len(names), np.int64, like=like)  # on the device, so that the host does not wait
        self.history, self._histories = [0] * len(names), itertools.count(1)
        # the elements before ends[i] and not before ends[i - 1] decay by decays[i]
        last = [i for i, decay in enumerate(decays) if i + 1 == len(decays) or decay != decays[i + 1]]
        self._ends = np.array([flat.segments[i].span.stop for i in last], np.int64)
        self._decays = np.asarray(np.array([decays[i] for i in last], like.dtype), like=like)
        self._ends_there = np.asarray(self._ends, like=like)

    def runs(self, of_one_history):
        """(span, first segment, last + 1) of neighbours with a gradient: nearly always the whole.

        of_one_history: only such neighbours as have taken the same steps.
        """
        runs = []
        for i, segment in enumerate(self.flat.segments):
            if not segment.gather():
                continue
            fits = not of_one_history or self.history[i - 1] == self.history[i]
            if runs and runs[-1][2] == i and fits:
                runs[-1] = (slice(runs[-1][0].start, segment.span.stop), runs[-1][1], i + 1)
            else:
                runs.append((segment.span, i, i + 1))
        return runs

    def step(self, *setting):
        """One step of all that have a gradient; setting: what follows `decays` in the kernel's signature."""
        longer = self._renumbering()
        for span, first, last in self.runs(of_one_history=True):
            data, ends = self.flat.data, self._ends_there
            if span != slice(0, data.size):
                ends = np.asarray(np.clip(self._ends - span.start, 0, span.stop - span.start), like=data)
            step = self.steps[first : first + 1].reshape(())
            kernels.for_array(data).fused_adamw_step(
                data[span], self.flat.grad[span], self.m[span], self.v[span], None, step, ends, self._decays, *setting
            )
            self.steps[first:last] = step
            self.history[first:last] = [longer[history] for history in self.history[first:last]]
            self._stepped(data, span)

    def _stepped(self, data, span):
        mark_written(data[span])
        param = self.flat.segments[0].param
        if not param.data.flags.c_contiguous:  # then `data` is a copy; in an arena all parameters are contiguous
            param.data[...] = data.reshape(param.shape)
            mark_written(param.data)

    def _renumbering(self):
        """A dict that gives each key a new number for a history."""
        return defaultdict(self._histories.__next__)

    def set_steps(self, counts):
        """Let each segment have taken so many steps: {name: int}."""
        histories = self._renumbering()
        self.history = [histories[counts[name]] for name in self.names]
        steps = np.array([counts[name] for name in self.names], np.int64)
        self.steps[...] = np.asarray(steps, like=self.steps)

    def views(self, moment):
        """{name: view of m or v with the parameter's shape}."""
        segments = zip(self.names, self.flat.segments, strict=True)
        return {name: moment[segment.span].reshape(segment.param.shape) for name, segment in segments}


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). Parameters without a gradient are left alone.

    arena: a GradientArena of some or all of these parameters, of no others, or None.
    """

    def __init__(self, params, learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, arena=None):
        super().__init__(params, learning_rate, weight_decay)
        if not all(0.0 <= beta < 1.0 for beta in betas) or eps <= 0.0:
            raise ValueError(f"betas {betas} must lie in [0, 1), and eps {eps} above 0")
        self.betas, self.eps, self.arena = betas, eps, arena
        self._moments = self._make_moments()

    def _make_moments(self):
        own = {id(p): (name, p, g["weight_decay"]) for g in self.groups for name, p in g["params"].items()}
        moments = []
        for flat in self.arena.flats if self.arena else ():
            if others := [segment.name for segment in flat.segments if id(segment.param) not in own]:
                raise ValueError(f"the arena holds {others[0]}, which is no parameter of this optimizer")
            names, _, decays = zip(*(own.pop(id(segment.param)) for segment in flat.segments), strict=True)
            moments.append(_Moments(flat, names, decays))
        self._refuse_half_of_a_tie([param for _, param, _ in own.values()])
        moments += [_Moments(_FlatOfOne(name, param), [name], [decay]) for name, param, decay in own.values()]
        if self.arena:  # last: all that the parameters leave is then free in one piece, and activations fit there
            self.arena.gather()
        return moments

    def _refuse_half_of_a_tie(self, outside):
        """ValueError if a parameter outside of the arena shares memory with one that the arena would move away."""
        segments = [segment for flat in self.arena.flats for segment in flat.segments] if self.arena else []
        for segment in segments:
            left = [p for p in outside if share_memory(p.data, segment.param.data)]
            if not all(any(p is tied for tied in segment.tied) for p in left):
                raise ValueError(
                    f"{segment.name} shares its data with a parameter that is not in the arena, and would leave it "
                    "behind; make the arena of all parameters of the optimizer"
                )

    def grad_norm(self):
        """The norm of all gradients together: a float, or on a device a () array, so that the host does not wait."""
        spans = [each.flat.grad[span] for each in self._moments for span, *_ in each.runs(of_one_history=False)]
        return kernels.for_array(self._moments[0].m).global_norm(spans)

    def step(self, norm=0.0, max_norm=0.0):
        """Update all parameters that have a gradient, as if it had been clipped to max_norm before.

        norm: the result of `grad_norm`; max_norm 0: no clipping. If the norm is not finite nothing changes, not even
        the step count.
        """
        for each in self._moments:
            there = np.asarray(norm, np.float64, like=each.m)
            each.step(self.learning_rate, *self.betas, self.eps, there, max_norm)

    def steps_taken(self):
        """How many steps have changed something, for the parameter that has seen most. The host waits for a device."""
        return max(int(each.steps.max()) for each in self._moments)

    def state_dict(self):
        """{"step": {name: int}, "m": {name: array}, "v": {name: array}}; arrays are copies, on the host."""
        state = {"step": {}, "m": {}, "v": {}}
        for each in self._moments:
            state["step"].update(zip(each.names, on_host(each.steps).tolist(), strict=True))
            state["m"].update({name: view.copy() for name, view in each.views(on_host(each.m)).items()})
            state["v"].update({name: view.copy() for name, view in each.views(on_host(each.v)).items()})
        return {key: {name: state[key][name] for name, _ in self.named_parameters()} for key in state}

    def load_state_dict(self, state):
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters."""
        params = dict(self.named_parameters())
        _require_names(state, ("step", "m", "v"), params)
        for name, step in state["step"].items():
            if not isinstance(step, numbers.Integral) or isinstance(step, bool) or not 0 <= step < 1 << 63:
                raise ValueError(f"optimizer state 'step' of {name} is {brief(step)}; expected an integer, 0 or more")
        arrays = {key: _fitting(state[key], key, {name: p.data for name, p in params.items()}) for key in ("m", "v")}
        for each in self._moments:
            each.set_steps({name: int(state["step"][name]) for name in each.names})
            for key in ("m", "v"):
                for name, view in each.views(getattr(each, key)).items():
                    view[...] = arrays[key][name]

    def __getstate__(self):
        """For copy and pickle: a copy's flat arrays are made anew, around its own parameters."""
        kept = {name: value for name, value in vars(self).items() if name != "_moments"}
        return kept, self.state_dict()

    def __setstate__(self, state):
        kept, moments = state
        vars(self).update(kept)
        self._moments = self._make_moments()
        self.load_state_dict(moments)


def _require_names(state, keys, names):
    """ValueError unless an optimizer's state is {key: {name: ...}} for just these keys and names."""
    if wrong := set(state) ^ set(keys):
        raise ValueError(
            f"optimizer state has or lacks {', '.join(sorted(map(one_line, wrong)))}; expected {', '.join(keys)}"
        )
    for key in keys:
        if wrong := set(state[key]) ^ set(names):
            which = ", ".join(sorted(map(one_line, wrong)))
            raise ValueError(f"optimizer state {key!r} does not fit these parameters: {which}")


def _fitting(arrays, key, into):
    """{name: array} ready to be copied into the arrays `into`. ValueError naming the first that does not fit."""
    for name, array in arrays.items():
        if problem := misfit(array, into[name]):
            raise ValueError(f"optimizer state {key!r} of {name} {problem}")
    return {name: copyable(array, into[name]) for name, array in arrays.items()}


def sgd_step(param, grad, momentum_buffer, learning_rate, momentum, weight_decay):
    """One step of gradient descent in place; weight_decay adds to the gradient, as in PyTorch's SGD.

    momentum_buffer: array like param, updated in place, or None without momentum.
    """
    if weight_decay:
        grad = grad + weight_decay * param
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += grad
        grad = momentum_buffer
    param -= learning_rate * grad


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted."""

    def __init__(self, params, learning_rate=1e-2, momentum=0.0, weight_decay=0.0):
        super().__init__(params, learning_rate, weight_decay)
        self.momentum = momentum
        self._buffers = {name: np.zeros_like(p.data) for name, p in self.named_parameters()} if momentum else {}

    def step(self):
        """Update all parameters that have a gradient."""
        for group in self.groups:
            for name, p in group["params"].items():
                if p.grad is not None:
                    buffer = self._buffers.get(name)
                    sgd_step(p.data, p.grad, buffer, self.learning_rate, self.momentum, group["weight_decay"])
                    mark_written(p.data)

    def state_dict(self):
        """{"momentum": {name: array}}; arrays are copies."""
        return {"momentum": {name: buffer.copy() for name, buffer in self._buffers.items()}}

    def load_state_dict(self, state):
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters."""
        _require_names(state, ("momentum",), self._buffers)
        for name, array in _fitting(state["momentum"], "momentum", self._buffers).items():
            self._buffers[name][...] = array


def clip_grad_norm_(parameters, max_norm):
    """Scale all gradients so that their common norm is at most `max_norm`. Returns the norm before clipping.

    Raises FloatingPointError, with the gradients as they were, if the norm is not finite: scaling by it
    would turn every weight into NaN.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norm = float(kernels.for_array(grads[0]).global_norm(grads))
    if not math.isfinite(norm):
        bad = next((i for i, grad in enumerate(grads) if not np.isfinite(grad).all()), None)
        which = "their squares overflow" if bad is None else f"gradient {bad} of shape {grads[bad].shape} is not finite"
        raise FloatingPointError(f"the gradients' norm is {norm}: {which}; nothing was clipped")
    scale = clip_factor(norm, max_norm)
    if scale < 1.0:
        for grad in grads:
            grad *= scale
    return norm


def clip_factor(norm, max_norm):
    """What to multiply gradients of norm `norm` by to bring them within `max_norm`; never above 1."""
    return min(1.0, max_norm / (norm + 1e-6))
