"""Check mode: every node records the call of the operation that made it, so that the call can be repeated.

Every operation is a pure function of its arguments, randomness included, so a repeated call gives the same bits.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType
from typing import Any

from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array


class Call:
    """One call of an operation: `function(*args, **kwargs)` gave the array `out`."""

    __slots__ = ("args", "function", "kwargs", "out")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Array) -> None:
        self.function, self.args, self.kwargs, self.out = function, args, kwargs, out

    @classmethod
    def of_frame(cls, frame: FrameType, out: Array) -> "Call | None":
        """The call that runs in an operation's frame; None if its module has no function of that name and code.

        The operation must not assign to its parameters before it calls `record`: their values are read there.
        """
        named: Any = frame.f_globals.get(frame.f_code.co_name)
        function = inspect.unwrap(named)  # without its decorators
        if getattr(function, "__code__", None) is not frame.f_code:
            return None
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        bare = FunctionType(frame.f_code, {})  # whose signature is the code's, not what a decorator shows
        for name, parameter in inspect.signature(bare).parameters.items():
            value = frame.f_locals[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value if isinstance(value, (list, tuple)) else [value]
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
        return cls(function, tuple(args), kwargs, out)

    def tensors(self) -> list[Tensor]:
        """The Tensors among the arguments, those inside lists included, in order."""
        return [t for arg in (*self.args, *self.kwargs.values()) for t in _tensors(arg)]

    def again(self, replacements: Iterable[Tensor]) -> Tensor:
        """Repeat the call with other Tensors, one for each of `tensors()`. Returns a Tensor."""
        fresh = iter(replacements)
        args = [_replaced(arg, fresh) for arg in self.args]
        return self.function(*args, **{key: _replaced(value, fresh) for key, value in self.kwargs.items()})


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "node") and hasattr(value, "requires_grad")


def _tensors(arg: Any) -> list[Tensor]:
    if _is_tensor(arg):
        return [arg]
    return [t for item in arg for t in _tensors(item)] if isinstance(arg, (list, tuple)) else []


def _replaced(arg: Any, fresh: Iterator[Tensor]) -> Any:
    if _is_tensor(arg):
        return next(fresh)
    return type(arg)(_replaced(item, fresh) for item in arg) if type(arg) in (list, tuple) else arg


@contextmanager
def check_mode() -> Iterator[None]:
    """Inside, every node that this thread makes keeps its `call` and its output. It costs memory and time."""
    before, graph.thread.record_calls = graph.thread.record_calls, Call.of_frame
    try:
        yield
    finally:
        graph.thread.record_calls = before
