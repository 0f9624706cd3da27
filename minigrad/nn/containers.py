"""Modules that hold others: a list, a dict, and a chain."""

from minigrad.nn.module import Module, _new_name


class _Container(Module):
    """`_modules`: name -> module. The attributes of a subclass belong to it as well."""

    def __init__(self):
        vars(self)["_modules"] = {}

    def _members(self):
        yield from ((name, value) for name, value in vars(self).items() if name != "_modules")
        yield from self._modules.items()

    def __len__(self):
        return len(self._modules)


def _checked(module):
    if not isinstance(module, Module):
        raise TypeError(f"expected a Module, not a {type(module).__name__}")
    return module


class ModuleList(_Container):
    """A list of modules, named by their positions."""

    def __init__(self, modules=()):
        super().__init__()
        self.extend(modules)

    def _renumber(self, modules):
        vars(self)["_modules"] = {str(i): module for i, module in enumerate(modules)}

    def _name(self, index):
        """The name of the module at a position, which may be negative."""
        return list(self._modules)[index]

    def append(self, module):
        return self.extend([module])

    def extend(self, modules):
        for module in modules:
            self._modules[str(len(self))] = _checked(module)
        return self

    def insert(self, index, module):
        modules = list(self)
        modules.insert(index, _checked(module))
        self._renumber(modules)

    def pop(self, key=-1):
        module = self[key]
        del self[key]
        return module

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return self._modules[self._name(index)]

    def __setitem__(self, index, module):
        self._modules[self._name(index)] = _checked(module)

    def __delitem__(self, index):
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def __contains__(self, module):
        return any(module is own for own in self)


class Sequential(ModuleList):
    """Modules applied one after another: given one by one, or as a dict of names."""

    def __init__(self, *modules):
        names = len(modules) == 1 and isinstance(modules[0], dict)
        super().__init__(() if names else modules)
        for name, module in modules[0].items() if names else ():
            self._modules[_new_name(self, name)] = _checked(module)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Sequential(dict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def __getattr__(self, name):  # only for what is no attribute: a module by its name
        if name in vars(self).get("_modules", ()):
            return self._modules[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def forward(self, x):
        for module in self:
            x = module(x)
        return x


class ModuleDict(_Container):
    """A dict of modules, named by their keys."""

    def __init__(self, modules=()):
        super().__init__()
        self.update(modules)

    def update(self, modules):
        for key, module in dict(modules).items():
            self[key] = module

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self._modules[_new_name(self, key)] = _checked(module)

    def __delitem__(self, key):
        del self._modules[key]

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self._modules

    def keys(self):
        return self._modules.keys()

    def values(self):
        return self._modules.values()

    def items(self):
        return self._modules.items()

    def pop(self, key):
        return self._modules.pop(key)

    def clear(self):
        self._modules.clear()
