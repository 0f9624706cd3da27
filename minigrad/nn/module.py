"""Module and Parameter.

There is no registration: whatever attribute is a Parameter or a Module belongs to the module, under the
attribute's name, and `state_dict` is a recursion over attributes: `blocks.0.attn.qkv.weight`.
"""

import reprlib
from collections import namedtuple

import numpy as np

from kernels.system.printable import one_line
from minigrad import graph
from minigrad._tensor import Tensor

LoadedKeys = namedtuple("LoadedKeys", ("missing_keys", "unexpected_keys"))


class Parameter(Tensor):
    """A leaf tensor that is to be learned."""

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad=requires_grad)


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

    # ------------------------------------------------------------------------------------------- attributes

    def __setattr__(self, name, value):
        """Refuses what would silently lose a parameter, a module or a buffer: TypeError."""
        before, path = vars(self).get(name), f"{type(self).__name__}.{name}"
        for kind in (Parameter, Module, Tensor):
            if isinstance(before, kind) and (kind is not Tensor or name in self._buffers()):
                if value is not None and not isinstance(value, (kind, Parameter)):
                    raise TypeError(f"{path} is a {kind.__name__}; it can become None or another {kind.__name__}, not "
                                    f"a {type(value).__name__}")  # fmt: skip
                break
        _refuse_plain_container(path, value)
        super().__setattr__(name, value)

    def register_parameter(self, name, param):
        """The same as setting the attribute, to a Parameter or None."""
        if not isinstance(param, (Parameter, type(None))):
            raise TypeError(f"{name} is a {type(param).__name__}, expected a Parameter or None")
        setattr(self, _new_name(self, name), param)

    def register_buffer(self, name, tensor, persistent=True):
        """An array that belongs to the module and is not learned: `to` and `astype` move it, `state_dict` has it.

        tensor: a Tensor, an array or None. persistent: False keeps it out of `state_dict`.
        """
        if hasattr(tensor, "dtype") and not isinstance(tensor, Tensor):
            tensor = Tensor(tensor)
        if not isinstance(tensor, (Tensor, type(None))) or isinstance(tensor, Parameter):
            raise TypeError(f"buffer {name} is a {type(tensor).__name__}, expected a Tensor or None")
        setattr(self, _new_name(self, name), tensor)
        vars(self).setdefault("_buffer_names", {})[name] = persistent

    def add_module(self, name, module):
        """The same as setting the attribute, to a Module or None."""
        if not isinstance(module, (Module, type(None))):
            raise TypeError(f"{name} is a {type(module).__name__}, expected a Module or None")
        setattr(self, _new_name(self, name), module)

    register_module = add_module

    def _members(self):
        """(name, value) of everything that may be a parameter or a module."""
        return vars(self).items()

    def _buffers(self):
        """name -> whether it is persistent, of this module's own buffers."""
        return vars(self).get("_buffer_names", {})

    def _own(self, persistent_only=False):
        """(name, Tensor) of this module alone: parameters, then buffers."""
        for name, value in self._members():
            if isinstance(value, Parameter):
                yield name, value
            elif type(value) in (list, tuple, dict, set):  # may have been filled after it was set
                _refuse_plain_container(f"{type(self).__name__}.{name}", value)
        for name, persistent in self._buffers().items():
            if vars(self).get(name) is not None and (persistent or not persistent_only):
                yield name, vars(self)[name]

    # ------------------------------------------------------------------------------------------- what is inside

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """(path, module) of this module ("" unless prefixed) and of all below it.

        One that stands in two places comes once, or with remove_duplicate=False under each path; a module that refers
        to one it is a part of does not lead round in circles. memo: the modules to leave out.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        memo.add(self)
        yield prefix, self
        for name, value in self._members():
            if isinstance(value, Module):
                yield from value.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)
        if not remove_duplicate:
            memo.discard(self)

    def modules(self):
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self):
        """(name, module) of the modules directly below this one, each once."""
        seen = set()
        for name, value in self._members():
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self):
        """The modules directly below this one, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """(path, Parameter) in order of definition; one that is used in two places comes once."""
        return self._named(Parameter, prefix, recurse, remove_duplicate)

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """(path, Tensor) of what `register_buffer` added."""
        return self._named(Tensor, prefix, recurse, remove_duplicate)

    def _named(self, kind, prefix, recurse, remove_duplicate):
        seen = set()
        below = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in below:
            for name, value in module._own():
                if isinstance(value, Parameter) == (kind is Parameter) and id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self, recurse=True):
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def buffers(self, recurse=True):
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def num_parameters(self):
        """How many numbers are learned."""
        return sum(parameter.size for parameter in self.parameters())

    # ------------------------------------------------------------------------------------------- saving

    def state_dict(self, *, prefix=""):
        """path -> array, of parameters and persistent buffers. The arrays themselves, not copies.

        As in PyTorch, one that is used in two places stands under both paths.
        """
        return {path: tensor.data for path, tensor in self._state(prefix)}

    def _state(self, prefix=""):
        for path, module in self.named_modules(None, prefix, remove_duplicate=False):
            for name, tensor in module._own(persistent_only=True):
                yield f"{path}.{name}" if path else name, tensor

    def load_state_dict(self, state_dict, strict=True):
        """Copy arrays into the parameters and buffers of the same names. Returns (missing_keys, unexpected_keys).

        Raises ValueError naming every missing, unexpected and misshapen key, and every one whose numbers are of another
        kind; then nothing has been changed. strict=False: missing and unexpected keys are returned instead.
        """
        state = {name: value.data if isinstance(value, Tensor) else value for name, value in state_dict.items()}
        own = dict(self._state())
        keys = LoadedKeys([name for name in own if name not in state], [name for name in state if name not in own])
        problems = []
        if strict:
            problems += [f"missing {name}" for name in keys.missing_keys]
            problems += [f"unexpected {one_line(name)}" for name in keys.unexpected_keys]
        problems += [
            f"{name} {problem}"
            for name, tensor in own.items()
            if name in state and (problem := misfit(state[name], tensor.data))
        ]
        if problems:
            raise ValueError(f"cannot load these weights into {type(self).__name__}: " + "; ".join(problems))
        arrays = {name: copyable(state[name], tensor.data) for name, tensor in own.items() if name in state}
        for name, array in arrays.items():
            own[name].data[...] = array
            graph.mark_written(own[name].data)
        return keys

    # ------------------------------------------------------------------------------------------- all at once

    def apply(self, fn):
        """Call fn(module) for all modules below this one, then for this one. Returns the module."""
        for module in self._children_first(set()):
            fn(module)
        return self

    def _children_first(self, seen):
        seen.add(self)
        for child in self.children():
            if child not in seen:
                yield from child._children_first(seen)
        yield self

    def train(self, mode=True):
        """Switch dropout on (or off) in this module and all below it. Returns the module."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self):
        """Switch dropout off."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Whether the parameters are learned. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none=True):
        """Forget all gradients, or with set_to_none=False fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.zero_grad()
            else:
                parameter.grad[...] = 0

    def astype(self, dtype):
        """Convert parameters and floating-point buffers, e.g. to float64 for a gradient check. Returns the module."""
        return self.to(lambda array: array.astype(dtype) if array.dtype.kind == "f" else array)

    def float(self):
        """astype(float32)."""
        return self.astype(np.float32)

    def double(self):
        """astype(float64)."""
        return self.astype(np.float64)

    def to(self, convert):
        """Replace the array of each parameter and buffer by convert(array), e.g. a device's `asarray`; or, given a
        dtype, as `astype`. Returns the module.

        Tensors that share an array go on sharing one.
        """
        if isinstance(convert, (str, np.dtype)) or (isinstance(convert, type) and issubclass(convert, np.generic)):
            return self.astype(convert)
        converted = {}
        for tensor in [*self.parameters(), *self.buffers()]:
            before = tensor.data
            if id(before) not in converted:
                converted[id(before)] = before, convert(before)  # `before` is kept, so that its id is not reused
            tensor.data, tensor.grad = converted[id(before)][1], None
            tensor.grad_buffer = tensor._pending = None  # of an arena of the old dtype or device
        return self

    @reprlib.recursive_repr("...")
    def __repr__(self):
        inside = [f"  ({name}): {value!r}".replace("\n", "\n  ") for name, value in self._members()
                  if isinstance(value, Module)]  # fmt: skip
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self):
        """What `repr` shows in the parentheses."""
        return ""


def _new_name(module, name):
    """The name, if it can be one: KeyError as in PyTorch."""
    if not isinstance(name, str) or not name or "." in name:
        raise KeyError(f"{name!r} is no name for an attribute: it must be a string without a dot")
    if name not in vars(module) and hasattr(type(module), name):
        raise KeyError(f"{type(module).__name__} has an attribute {name!r} already")
    return name


def _refuse_plain_container(path, value):
    """TypeError if a list, tuple, set or dict holds a Parameter or a Module, at whatever depth."""
    if not isinstance(value, (list, tuple, dict, set)):
        return
    todo, seen = [value], set()
    while todo:
        container = todo.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        for each in container.values() if isinstance(container, dict) else container:
            if isinstance(each, (Parameter, Module)):
                raise TypeError(
                    f"{path} is a {type(value).__name__} that holds a {type(each).__name__}, which would not be found "
                    f"there; use nn.{'ModuleDict' if isinstance(value, dict) else 'ModuleList'}, or an attribute for a "
                    "Parameter"
                )
            if isinstance(each, (list, tuple, dict, set)):
                todo.append(each)


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
