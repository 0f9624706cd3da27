"""What `Tensor.register_hook` returns."""

from collections.abc import Callable
from typing import Any, Self


class RemovableHandle:
    """Removes a hook: by `remove()`, by a call, or at the end of a `with` block. A second time does no harm."""

    __slots__ = ("_hooks", "_hook")

    def __init__(self, hooks: list[Callable[[Any], Any]], hook: Callable[[Any], Any]) -> None:
        self._hooks: list[Callable[[Any], Any]] | None = hooks
        self._hook = hook
        hooks.append(hook)

    def remove(self) -> None:
        """Remove the hook, unless that was done before."""
        if self._hooks is not None and self._hook in self._hooks:
            self._hooks.remove(self._hook)
        self._hooks = None

    __call__ = remove

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
