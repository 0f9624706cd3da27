"""Modules that hold others: a list, a dict, and a chain."""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, Self, TypeAlias, TypeVar, overload

from kernels.system.printable import brief
from minigrad._tensor import Tensor, as_tensor
from minigrad.argument_types import TensorLike
from minigrad.nn.module import Module, new_name

Held = TypeVar("Held", bound=Module)


class _Container(Module, Generic[Held]):
    """`_modules`: name -> module. As in PyTorch, a module that becomes an attribute is held as well, under its name.

    Other attributes of a subclass, parameters for instance, belong to it as they do to every module.
    """

    _modules: dict[str, Held]

    def __init__(self) -> None:
        vars(self)["_modules"] = {}

    def _members(self) -> Iterator[tuple[str, Any]]:
        yield from ((name, value) for name, value in vars(self).items() if name != "_modules")
        yield from self._modules.items()

    def _hold(self, name: str, module: Held) -> None:
        self._modules[new_name(self, name, Module)] = _checked(module)

    def __len__(self) -> int:
        return len(self._modules)

    def __getattr__(self, name: str) -> Any:  # only for what is no attribute: a module by its name
        if name in vars(self).get("_modules", ()):
            return self._modules[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get("_modules", {})
        if isinstance(value, Module) and "_modules" not in vars(self):
            raise AttributeError(f"{type(self).__name__}.{name} is set before super().__init__() is called")
        if isinstance(value, Module) or name in held:
            self._hold(name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            del self._modules[name]
        else:
            super().__delattr__(name)


def _checked(module: Held) -> Held:
    if not isinstance(module, Module):
        hint = "; give the modules one by one, Sequential(*modules)" if isinstance(module, (list, tuple)) else ""
        raise TypeError(f"expected a Module, not a {type(module).__name__}{hint}")
    return module


class _List(_Container[Held]):
    """What ModuleList and Sequential have in common: modules in an order."""

    def _renumber(self, modules: Iterable[Held]) -> None:
        vars(self)["_modules"] = {str(i): module for i, module in enumerate(modules)}

    def _name(self, index: int) -> str:
        """The name of the module at a position, which may be negative."""
        return list(self._modules)[index]

    def append(self, module: Held) -> Self:
        """Put a module at the end. Returns the container."""
        return self.extend([module])

    def extend(self, modules: Iterable[Held]) -> Self:
        """Put modules at the end. Returns the container."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"expected a list of modules, not a {type(modules).__name__}")
        for module in [*modules]:
            self._hold(str(len(self)), module)
        return self

    def insert(self, index: int, module: Held) -> Self:
        """Put a module at a position, as list.insert; all are numbered anew. Returns the container."""
        modules = list(self)
        modules.insert(index, _checked(module))
        self._renumber(modules)
        return self

    def pop(self, key: int = -1) -> Held:
        """Take the module at a position out; the others are numbered anew."""
        module = self._modules[self._name(key)]
        del self[key]
        return module

    def __iter__(self) -> Iterator[Held]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Held) -> None:
        self._modules[self._name(index)] = _checked(module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def __iadd__(self, other: Iterable[Held]) -> Self:
        return self.extend(other)

    def __contains__(self, module: object) -> bool:
        return any(module is own for own in self)


class ModuleList(_List[Held]):
    """A list of modules, named by their positions."""

    @overload
    def __init__(self: "ModuleList[Any]") -> None: ...
    @overload
    def __init__(self, modules: Iterable[Held] | None) -> None: ...
    def __init__(self, modules: Iterable[Held] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    @overload
    def __getitem__(self, index: int) -> Held: ...
    @overload
    def __getitem__(self, index: slice) -> "ModuleList[Held]": ...
    def __getitem__(self, index: int | slice) -> "Held | ModuleList[Held]":
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return self._modules[self._name(index)]

    def __add__(self, other: Iterable[Held]) -> "ModuleList[Held]":
        return ModuleList([*self, *other])


class Sequential(_List[Any]):
    """Modules applied one after another: given one by one, or as a dict of names."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._hold(name, module)
        else:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self._modules.items())[index]))
        return self._modules[self._name(index)]

    def __add__(self, other: Iterable[Module]) -> "Sequential":
        return Sequential(*self, *other)

    def forward(self, input: TensorLike) -> Tensor:
        for module in self:
            input = module(input)
        return as_tensor(input)


class ModuleDict(_Container[Held]):
    """A dict of modules, named by their keys."""

    @overload
    def __init__(self: "ModuleDict[Any]") -> None: ...
    @overload
    def __init__(self, modules: "Named[Held] | None") -> None: ...
    def __init__(self, modules: "Named[Held] | None" = None) -> None:
        super().__init__()
        self.update(() if modules is None else modules)

    def update(self, modules: "Named[Held]") -> None:
        """Add modules: of a dict, of another ModuleDict, or (key, module) pairs."""
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        try:
            named = [(key, module) for key, module in pairs]
        except (TypeError, ValueError):
            raise TypeError(f"expected a dict of modules, or (key, module) pairs, not {brief(modules)}") from None
        for key, module in named:
            self[key] = module

    def __getitem__(self, key: str) -> Held:
        return self._modules[key]

    def __setitem__(self, key: str, module: Held) -> None:
        self._hold(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> ValuesView[Held]:
        """The modules."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Held]:
        """(name, module) pairs."""
        return self._modules.items()

    def pop(self, key: str) -> Held:
        """Take a module out."""
        return self._modules.pop(key)

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()


#: what a ModuleDict is made of
Named: TypeAlias = Mapping[str, Held] | ModuleDict[Held] | Iterable[tuple[str, Held]]
