"""Module and Parameter.

There is no registration: whatever attribute is a Parameter or a Module belongs to the module, under the
attribute's name, and `state_dict` is a recursion over attributes: `blocks.0.attn.qkv.weight`.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array, TensorLike
from minigrad.nn.state import LoadedKeys, load
from minigrad.ops.nn import refuse

Arguments = ParamSpec("Arguments")
Output = TypeVar("Output", covariant=True)


class Parameter(Tensor):
    """A leaf tensor that is to be learned."""

    __slots__ = ()

    def __init__(self, data: TensorLike, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad=requires_grad)

    def __getstate__(self) -> tuple[Array, bool, None]:
        """For copy and pickle: without the gradient, as in PyTorch, so that the copy's own begins at nothing."""
        data, requires_grad, _ = super().__getstate__()
        return data, requires_grad, None


class HasForward(Protocol[Arguments, Output]):
    """A module as `Module.__call__` sees it: model(x) takes what its `forward` takes, and gives what that gives."""

    @property
    def forward(self) -> Callable[Arguments, Output]: ...

    def named_modules(self) -> Iterator[tuple[str, "Module"]]: ...


class Module:
    """Base of all modules. Subclasses set attributes in `__init__` and define `forward`."""

    training = True

    def __call__(self: HasForward[Arguments, Output], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Output:
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

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; called by `module(...)`."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    # ------------------------------------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value: Any) -> None:
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
        if isinstance(value, Parameter):
            self._buffers().pop(name, None)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._buffers().pop(name, None)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as setting the attribute, to a Parameter or None. KeyError if the name is taken."""
        if not isinstance(param, (Parameter, type(None))):
            raise TypeError(f"{name} is a {type(param).__name__}, expected a Parameter or None")
        setattr(self, new_name(self, name, Parameter), param)

    def register_buffer(self, name: str, tensor: Tensor | Array | None, persistent: bool = True) -> None:
        """An array that belongs to the module and is not learned: `to` and `astype` move it, `state_dict` has it.

        tensor: a Tensor, an array or None. persistent: False keeps it out of `state_dict`.
        """
        if tensor is not None and hasattr(tensor, "dtype") and not isinstance(tensor, Tensor):
            tensor = Tensor(tensor)
        if not isinstance(tensor, (Tensor, type(None))) or isinstance(tensor, Parameter):
            raise TypeError(f"buffer {name} is a {type(tensor).__name__}, expected a Tensor or None")
        setattr(self, new_name(self, name, Tensor), tensor)
        vars(self).setdefault("_buffer_names", {})[name] = persistent

    def add_module(self, name: str, module: "Module | None") -> None:
        """The same as setting the attribute, to a Module or None. KeyError if the name is taken."""
        if not isinstance(module, (Module, type(None))):
            raise TypeError(f"{name} is a {type(module).__name__}, expected a Module or None")
        setattr(self, new_name(self, name, Module), module)

    register_module = add_module

    def _members(self) -> Iterable[tuple[str, Any]]:
        """(name, value) of everything that may be a parameter or a module."""
        return vars(self).items()

    def _buffers(self) -> dict[str, bool]:
        """name -> whether it is persistent, of this module's own buffers."""
        return vars(self).get("_buffer_names", {})

    def _own(self, persistent_only: bool = False) -> Iterator[tuple[str, Tensor]]:
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

    def named_modules(
        self, memo: "set[Module] | None" = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, "Module"]]:
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

    def modules(self) -> Iterator["Module"]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """(name, module) of the modules directly below this one, each once."""
        seen: set[Module] = set()
        for name, value in self._members():
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator["Module"]:
        """The modules directly below this one, each once."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter) in order of definition; one that is used in two places comes once."""
        for name, value in self._named(prefix, recurse, remove_duplicate):
            if isinstance(value, Parameter):
                yield name, value

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, Tensor) of what `register_buffer` added."""
        for name, value in self._named(prefix, recurse, remove_duplicate):
            if not isinstance(value, Parameter):
                yield name, value

    def _named(self, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        """(path, Parameter or buffer)."""
        seen: set[int] = set()
        below: Iterable[tuple[str, Module]]
        below = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in below:
            for name, value in module._own():
                if id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.size for parameter in self.parameters())

    # ------------------------------------------------------------------------------------------- saving

    def state_dict(self, *, prefix: str = "") -> dict[str, Array]:
        """path -> array, of parameters and persistent buffers. The arrays themselves, not copies.

        As in PyTorch, one that is used in two places stands under both paths.
        """
        return {path: tensor.data for path, tensor in self._state(prefix)}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(None, prefix, remove_duplicate=False):
            for name, tensor in module._own(persistent_only=True):
                yield f"{path}.{name}" if path else name, tensor

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> LoadedKeys:
        """Copy arrays into the parameters and buffers of the same names. Returns (missing_keys, unexpected_keys).

        state_dict: {name: array or Tensor, also PyTorch's on the host}. Raises RuntimeError (which is a ValueError too)
        naming every missing, unexpected and misshapen key, and every one whose numbers are of another kind; then
        nothing has been changed. strict=False: missing and unexpected keys are returned instead. assign=True, which
        would put the arrays themselves in, is refused.
        """
        refuse("load_state_dict", assign=assign)
        return load(type(self).__name__, dict(self._state()), state_dict, strict)

    # ------------------------------------------------------------------------------------------- all at once

    def apply(self, fn: Callable[["Module"], object]) -> Self:
        """Call fn(module) for all modules below this one, then for this one. Returns the module."""
        for module in self._children_first(set()):
            fn(module)
        return self

    def _children_first(self, seen: "set[Module]") -> Iterator["Module"]:
        seen.add(self)
        for child in self.children():
            if child not in seen:
                yield from child._children_first(seen)
        yield self

    def train(self, mode: bool = True) -> Self:
        """Switch dropout on (or off) in this module and all below it. Returns the module."""
        if not isinstance(mode, (bool, np.bool)):
            raise ValueError(f"train: mode is {mode!r}; expected True or False")
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Switch dropout off."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether the parameters are learned. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; with set_to_none=False each becomes a new array of zeros."""
        for parameter in self.parameters():
            parameter.grad = None if set_to_none or parameter.grad is None else np.zeros_like(parameter.grad)

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Convert parameters and floating-point buffers, e.g. to float64 for a gradient check. Returns the module."""
        try:
            is_floating = dtype is not None and np.dtype(dtype).kind == "f"
        except TypeError:
            is_floating = False
        if not is_floating:
            raise TypeError(
                f"{type(self).__name__} is converted to a floating-point dtype, not to {dtype!r}; to a device by a "
                "function, model.to(minigrad.runtime.asarray('cuda'))"
            )
        return self._convert(lambda array: array.astype(dtype, copy=False) if array.dtype.kind == "f" else array)

    # fmt: off
    def half(self) -> Self: return self.astype(np.float16)
    def float(self) -> Self: return self.astype(np.float32)
    def double(self) -> Self: return self.astype(np.float64)
    # fmt: on

    def to(self, dtype: npt.DTypeLike | Tensor | Callable[[Array], Array]) -> Self:
        """`astype` of a dtype, or of a Tensor's; or replace the array of each parameter and buffer by what a function
        makes of it, e.g. a device's `asarray`. Returns the module.

        Gradients are converted too. Tensors that share an array go on sharing one.
        """
        if isinstance(dtype, Tensor):
            return self.astype(dtype.dtype)
        if callable(dtype) and not isinstance(dtype, type):
            return self._convert(dtype)
        return self.astype(dtype)

    def _convert(self, convert: Callable[[Array], Array]) -> Self:
        converted: dict[int, tuple[Array, Array]] = {}
        for tensor in [*self.parameters(), *self.buffers()]:
            before = tensor.data
            if id(before) not in converted:
                converted[id(before)] = before, convert(before)  # `before` is kept, so that its id is not reused
            after = converted[id(before)][1]
            if after is not before:
                tensor.data = after
                tensor.grad = None if tensor.grad is None else convert(tensor.grad)
                tensor.grad_buffer = tensor._pending = None  # of an arena of the old dtype or device
        return self

    @reprlib.recursive_repr("...")
    def __repr__(self) -> str:
        inside = [f"  ({name}): {value!r}".replace("\n", "\n  ") for name, value in self._members()
                  if isinstance(value, Module)]  # fmt: skip
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self) -> str:
        """What `repr` shows in the parentheses."""
        return ""


def new_name(module: Module, name: str, kind: type) -> str:
    """The name, if it can become one of a `kind`: TypeError or KeyError as in PyTorch."""
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name for an attribute: it must be a string")
    if not name or "." in name:
        raise KeyError(f"{name!r} is no name for an attribute: it must be a string without a dot")
    before = getattr(module, name, None)
    is_one = isinstance(before, kind) and not (kind is Tensor and isinstance(before, Parameter))
    if before is not None and not is_one and name not in module._buffers():
        raise KeyError(f"{type(module).__name__} has an attribute {name!r} already")
    return name


def _refuse_plain_container(path: str, value: object) -> None:
    """TypeError if a list, tuple, set or dict holds a Parameter or a Module, at whatever depth."""
    if not isinstance(value, (list, tuple, dict, set)):
        return
    todo: list[Any] = [value]
    seen: set[int] = set()
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
