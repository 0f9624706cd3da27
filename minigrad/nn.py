"""Modules: named parameters, and a `forward` that says what to do with them.

There is no registration: whatever attribute is a Parameter or a Module belongs to the module, under the
attribute's name, and `state_dict` is a recursion over attributes: `blocks.0.attn.qkv.weight`.
"""

import math

import numpy as np

from kernels.system.printable import one_line
from minigrad import functional as F
from minigrad import graph, random
from minigrad._tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that is to be learned."""

    __slots__ = ()

    def __init__(self, data):
        super().__init__(data, requires_grad=True)


class Module:
    """Base of all modules. Subclasses set attributes in `__init__` and define `forward`."""

    training = True

    def __call__(self, *args, **kwargs):
        """`forward`, with every node made inside knowing which module made it."""
        thread = graph.thread
        before = thread.module_path
        if not before:  # paths begin at the outermost module
            thread.module_paths = {id(module): path for path, module in self.named_modules()}
        thread.module_path = thread.module_paths.get(id(self)) or type(self).__name__
        try:
            return self.forward(*args, **kwargs)
        finally:
            thread.module_path = before

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def _members(self):
        """(name, value) of everything that may be a parameter or a module."""
        return vars(self).items()

    def named_modules(self, prefix=""):
        """(path, module) of this module ("" unless prefixed) and of all below it."""
        yield prefix, self
        for name, value in self._members():
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self):
        """(name, Parameter) in order of definition; one that is used in two places comes once."""
        seen = set()
        for path, module in self.named_modules():
            for name, value in module._members():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self):
        """All parameters, as a list."""
        return [parameter for _, parameter in self.named_parameters()]

    def num_parameters(self):
        """How many numbers are learned."""
        return sum(parameter.size for parameter in self.parameters())

    def state_dict(self):
        """name -> array. The arrays themselves, not copies."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state):
        """Copy arrays into the parameters of the same names.

        Raises ValueError naming every missing, unexpected and misshapen key, and every one whose numbers are of another
        kind; then nothing has been changed.
        """
        own = dict(self.named_parameters())
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {one_line(name)}" for name in state if name not in own]
        problems += [
            f"{name} {problem}"
            for name, parameter in own.items()
            if name in state and (problem := misfit(state[name], parameter.data))
        ]
        if problems:
            raise ValueError(f"cannot load these weights into {type(self).__name__}: " + "; ".join(problems))
        arrays = {name: copyable(state[name], parameter.data) for name, parameter in own.items()}
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]
            graph.mark_written(parameter.data)

    def train(self, mode=True):
        """Switch dropout on (or off) in this module and all below it. Returns the module."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self):
        """Switch dropout off."""
        return self.train(False)

    def zero_grad(self):
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def astype(self, dtype):
        """Convert all parameters, e.g. to float64 for a gradient check. Returns the module."""
        return self.to(lambda array: array.astype(dtype))

    def to(self, convert):
        """Replace each parameter's array by convert(array), e.g. a device's `asarray`. Returns the module.

        Parameters that share an array go on sharing one.
        """
        converted = {}
        for parameter in self.parameters():
            before = parameter.data
            if id(before) not in converted:
                converted[id(before)] = before, convert(before)  # `before` is kept, so that its id is not reused
            parameter.data, parameter.grad = converted[id(before)][1], None
            parameter.grad_buffer = parameter._pending = None  # of an arena of the old dtype or device
        return self

    def __repr__(self):
        inside = [f"  ({name}): {value!r}".replace("\n", "\n  ") for name, value in self._members()
                  if isinstance(value, Module)]  # fmt: skip
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self):
        """What `repr` shows in the parentheses."""
        return ""


def misfit(array, into):
    """What keeps `array` from being copied into the array `into`, in words; None if nothing does."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        return f"is a {type(array).__name__}, expected an array"
    if tuple(array.shape) != into.shape:
        return f"has shape {tuple(array.shape)}, expected {into.shape}"
    if not np.can_cast(array.dtype, into.dtype, "same_kind"):
        return f"holds {array.dtype}, expected {into.dtype}"
    return None


def copyable(array, into):
    """`array` with the dtype of `into` and where that is: what is left to do cannot fail."""
    return np.asarray(array, dtype=into.dtype, like=into)


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features). weight (out, in), as in PyTorch.

    Drawn from U(-1/sqrt(in), 1/sqrt(in)).
    """

    def __init__(self, in_features, out_features, bias=True):
        bound = 1.0 / math.sqrt(in_features)
        self.weight = Parameter(random.uniform((out_features, in_features), -bound, bound))
        self.bias = Parameter(random.uniform((out_features,), -bound, bound)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self):
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors: ids (...) of integers -> (..., embedding_dim). Drawn from N(0, 1)."""

    def __init__(self, num_embeddings, embedding_dim):
        self.weight = Parameter(random.normal((num_embeddings, embedding_dim)))

    def forward(self, ids):
        return F.embedding(self.weight, ids)

    def extra_repr(self):
        return ", ".join(map(str, self.weight.shape))


class LayerNorm(Module):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift. Ba et al. 2016."""

    def __init__(self, size, eps=1e-5, bias=True):
        self.weight = Parameter(np.ones(size, np.float32))
        self.bias = Parameter(np.zeros(size, np.float32)) if bias else None
        self.eps = eps

    def forward(self, x):
        return F.layernorm(x, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.weight.size}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Divide the last axis by its root mean square, then scale. Zhang & Sennrich 2019. eps as in `F.rmsnorm`."""

    def __init__(self, size, eps=None):
        self.weight = Parameter(np.ones(size, np.float32))
        self.eps = eps

    def forward(self, x):
        return F.rmsnorm(x, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.weight.size}, eps={self.eps}"


class Dropout(Module):
    """Zero elements with probability p while training. Where on the random tape: `minigrad.random`."""

    def __init__(self, p):
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout probability is {p}; expected 0 <= p < 1")
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, *random.next_stream()) if self.training and self.p else x

    def extra_repr(self):
        return f"p={self.p}"


class ModuleList(Module):
    """A list of modules, named by their positions."""

    def __init__(self, modules=()):
        self._modules = list(modules)

    def _members(self):
        return ((str(i), module) for i, module in enumerate(self._modules))

    def append(self, module):
        self._modules.append(module)
        return self

    def __iter__(self):
        return iter(self._modules)

    def __len__(self):
        return len(self._modules)

    def __getitem__(self, index):
        return self._modules[index]


class Sequential(ModuleList):
    """Modules applied one after another."""

    def __init__(self, *modules):
        super().__init__(modules)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x
