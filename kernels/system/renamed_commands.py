"""Commands that have a new name: `python -m OLD` tells it in one line, with status 2; `import OLD`: ImportError."""

import shlex
import sys
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

_NEW_NAMES: dict[str, str] = {}  # name of a module that is no more -> the one that has its place


class _Finder(MetaPathFinder, InspectLoader):
    """Finds modules that are no more: each consists of a call of `_refuse`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, origin=__file__) if name in _NEW_NAMES else None

    def get_source(self, name: str) -> str:
        return f"from {__name__} import _refuse\n_refuse({name!r})\n"


def answer(new_names: dict[str, str]) -> None:
    """Make the old commands answer, {"package.old": "package.new"}; the old ones' package calls this."""
    _NEW_NAMES.update(new_names)


def _refuse(old: str) -> NoReturn:
    from kernels.system import cli

    new, spec = _NEW_NAMES[old], getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name != old:
        raise ImportError(f"{old} is now {new}")
    command = " ".join([cli.command(new), *map(shlex.quote, sys.argv[1:])])
    cli.fail(f"python -m {old}", f"this command is now {command}")


sys.meta_path.insert(0, _Finder())  # a folder that held such a module and is empty now would be found as well
