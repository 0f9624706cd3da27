"""Optimizers. The update rules are functions of arrays; the classes hold the arrays and call them.

AdamW lays parameters, their gradients and both moments out in four flat arrays (an arena), so that a step, clipping
included, is one pass over memory. `Parameter.data` and `.grad` are views of it: indexing, printing and
`load_state_dict` work as ever, and a `.data` that was rebound to another array is copied back in.
"""

import itertools
import math
import numbers
from collections import defaultdict

import numpy as np

import kernels
from kernels.arrays import CACHE_LINE, empty, on_host
from kernels.system.text import brief, one_line
from minigrad.nn import Embedding, Parameter, copyable, misfit

_TWICE = "a parameter, or the name of one, stands twice in the optimizer's groups"


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
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"name": "all", "params": params}]
        self.groups = [
            {"name": str(i), "weight_decay": weight_decay, **group, "params": _named(group["params"], i)}
            for i, group in enumerate(groups)
        ]
        names = [name for name, _ in self.named_parameters()]
        if not names:
            raise ValueError("an optimizer needs at least one parameter")
        if len(set(names)) < len(names) or len({id(p) for _, p in self.named_parameters()}) < len(names):
            raise ValueError(_TWICE)

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


def _named(params, group):
    if isinstance(params, dict):
        return dict(params)
    params = list(params)
    if params and isinstance(params[0], Parameter):
        return {f"{group}.{i}": parameter for i, parameter in enumerate(params)}
    named = dict(params)
    if len(named) < len(params):
        raise ValueError(_TWICE)
    return named


class _Segment:
    """One parameter's place in an arena.

    history: a number for the calls of `step` it has taken part in. A call counts for all that take part or, where the
    norm is not finite, for none, and on a device only the device knows. So equal histories mean equal step counts.
    """

    __slots__ = ("name", "param", "span", "data", "grad", "history")

    def __init__(self, name, param, span, arena):
        self.name, self.param, self.span, self.history = name, param, span, 0
        self.data, self.grad = arena.data[span].reshape(param.shape), arena.grad[span].reshape(param.shape)
        self.gather()

    def gather(self):
        """Bring `.data` and `.grad` into the arena if they are elsewhere. Returns whether there is a gradient."""
        param = self.param
        if param.data is not self.data:
            if param.data.shape != self.data.shape or param.data.dtype != self.data.dtype:
                raise ValueError(
                    f"{self.name} is now {param.data.shape} {param.data.dtype}, but the optimizer was made for "
                    f"{self.data.shape} {self.data.dtype}; make a new optimizer after changing parameters"
                )
            self.data[...] = param.data
            param.data = self.data
        if param.grad is not None and param.grad is not self.grad:
            if param.grad.shape != self.grad.shape:
                raise ValueError(f"the gradient of {self.name} is {param.grad.shape}, the parameter {self.grad.shape}")
            self.grad[...] = param.grad
            param.grad, param.loan = self.grad, None
        param.grad_buffer = self.grad
        return param.grad is not None


class _Arena:
    """All parameters of one dtype, flat: data, grad and both moments, group after group; and each one's step count.

    Each parameter begins a cache line; between two there may be zeros.
    ends, decays: the elements before ends[g] and not before ends[g - 1] decay by decays[g].
    """

    def __init__(self, groups, dtype):
        groups = [([*group["params"].items()], group["weight_decay"]) for group in groups]
        groups = [([(name, p) for name, p in params if p.dtype == dtype], decay) for params, decay in groups]
        groups = [(params, decay) for params, decay in groups if params]
        like, spans, ends, stop = groups[0][0][0][1].data, [], [], 0
        for params, _ in groups:
            for _, param in params:
                start = stop + -stop % (CACHE_LINE // dtype.itemsize)
                stop = start + param.size
                spans.append(slice(start, stop))
            ends.append(stop)
        self.data, self.grad, self.m, self.v = (empty((stop,), dtype, like) for _ in range(4))
        for x in (self.data, self.grad, self.m, self.v):
            x[...] = 0
        named = [named for params, _ in groups for named in params]
        self.segments = [_Segment(*named, span, self) for named, span in zip(named, spans, strict=True)]
        self.steps = np.zeros(len(self.segments), np.int64, like=like)  # where the arena is: nobody waits for them
        self._histories = itertools.count(1)
        self._ends, decays = np.array(ends, np.int64), np.array([decay for _, decay in groups], dtype)
        self.ends, self.decays = np.asarray(self._ends, like=like), np.asarray(decays, like=like)

    def runs(self, of_one_history):
        """(span, first segment, last + 1) of neighbours with a gradient: nearly always the whole.

        of_one_history: only such neighbours as have taken the same steps.
        """
        runs = []
        for i, segment in enumerate(self.segments):
            if not segment.gather():
                continue
            fits = not of_one_history or self.segments[i - 1].history == segment.history
            if runs and runs[-1][2] == i and fits:
                runs[-1] = (slice(runs[-1][0].start, segment.span.stop), runs[-1][1], i + 1)
            else:
                runs.append((segment.span, i, i + 1))
        return runs

    def step(self, *setting):
        """One step of all that have a gradient; setting: what follows `decays` in the kernel's signature."""
        step_kernel = kernels.for_array(self.data).fused_adamw_step
        longer = self._renumbering()
        for span, first, last in self.runs(of_one_history=True):
            ends = self.ends
            if span != slice(0, self.data.size):
                ends = np.asarray(np.clip(self._ends - span.start, 0, span.stop - span.start), like=self.data)
            step = self.steps[first : first + 1].reshape(())
            step_kernel(
                self.data[span], self.grad[span], self.m[span], self.v[span], None, step, ends, self.decays, *setting
            )
            self.steps[first:last] = step
            for segment in self.segments[first:last]:
                segment.history = longer[segment.history]

    def _renumbering(self):
        """A dict that gives each key a new number for a history."""
        return defaultdict(self._histories.__next__)

    def set_steps(self, counts):
        """Have each segment stand after so many steps: {name: int}."""
        histories = self._renumbering()
        for segment in self.segments:
            segment.history = histories[counts[segment.name]]
        steps = np.array([counts[segment.name] for segment in self.segments], np.int64)
        self.steps[...] = np.asarray(steps, like=self.steps)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). Parameters without a gradient are left alone."""

    def __init__(self, params, learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, learning_rate, weight_decay)
        if not all(0.0 <= beta < 1.0 for beta in betas) or eps <= 0.0:
            raise ValueError(f"betas {betas} must lie in [0, 1), and eps {eps} above 0")
        self.betas, self.eps = betas, eps
        dtypes = sorted({p.dtype for _, p in self.named_parameters()}, key=str)
        self._arenas = [_Arena(self.groups, dtype) for dtype in dtypes]

    def grad_norm(self):
        """The norm of all gradients together: a float, or on a device a () array, so that nobody waits for it."""
        spans = [arena.grad[span] for arena in self._arenas for span, *_ in arena.runs(of_one_history=False)]
        return kernels.for_array(self._arenas[0].data).global_norm(spans)

    def step(self, norm=0.0, max_norm=0.0):
        """Update all parameters that have a gradient, as if it had been clipped to max_norm before.

        norm: what `grad_norm` gave; max_norm 0: no clipping. If the norm is not finite nothing changes, not even the
        step count.
        """
        for arena in self._arenas:
            norm = np.asarray(norm, np.float64, like=arena.data)
            arena.step(self.learning_rate, *self.betas, self.eps, norm, max_norm)

    def steps_taken(self):
        """How many steps have changed something, for the parameter that has seen most. The host waits for a device."""
        return max(int(arena.steps.max()) for arena in self._arenas)

    def state_dict(self):
        """{"step": {name: int}, "m": {name: array}, "v": {name: array}}; arrays are copies, on the host."""
        state = {"step": {}, "m": {}, "v": {}}
        for arena in self._arenas:
            steps, moments = on_host(arena.steps), {"m": on_host(arena.m), "v": on_host(arena.v)}
            for segment, step in zip(arena.segments, steps.tolist(), strict=True):
                state["step"][segment.name] = step
                for key, moment in moments.items():
                    state[key][segment.name] = moment[segment.span].reshape(segment.data.shape).copy()
        return state

    def load_state_dict(self, state):
        """The inverse of `state_dict`. ValueError, with nothing changed, for one that does not fit the parameters."""
        segments = [segment for arena in self._arenas for segment in arena.segments]
        _require_names(state, ("step", "m", "v"), [segment.name for segment in segments])
        for name, step in state["step"].items():
            if not isinstance(step, numbers.Integral) or isinstance(step, bool) or not 0 <= step < 1 << 63:
                raise ValueError(f"optimizer state 'step' of {name} is {brief(step)}; expected an integer, 0 or more")
        moments = {key: _fitting(state[key], key, {s.name: s.data for s in segments}) for key in ("m", "v")}
        for arena in self._arenas:
            arena.set_steps({segment.name: int(state["step"][segment.name]) for segment in arena.segments})
            for segment in arena.segments:
                arena.m[segment.span] = moments["m"][segment.name].reshape(-1)
                arena.v[segment.span] = moments["v"][segment.name].reshape(-1)


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
