"""no_grad: inside, this thread records nothing."""

import functools
import inspect
import types
from collections.abc import Generator
from contextlib import ContextDecorator
from typing import Any

from minigrad.argument_types import Function
from minigrad.graph import thread


class no_grad(ContextDecorator):
    """Record nothing in this thread inside: a `with` block or, as `@no_grad()`, a function, coroutine or generator."""

    def __enter__(self) -> None:
        thread.recording, thread.outer = False, (thread.recording, thread.outer)

    def __exit__(self, *error: object) -> None:
        thread.recording, thread.outer = thread.outer

    def __call__(self, function: Function) -> Function:
        return self._decorated(function)

    def _decorated(self, function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self._decorated(function.__func__))
        if inspect.isasyncgenfunction(function):
            raise TypeError("no_grad does not decorate async generators; use `with no_grad():` between their yields")
        if inspect.iscoroutinefunction(function):
            step_by_step: Any = types.coroutine(_unrecorded)
        elif inspect.isgeneratorfunction(function):
            step_by_step = _unrecorded
        else:
            return super().__call__(function)

        @functools.wraps(function)
        def start(*args: Any, **kwargs: Any) -> Any:
            return step_by_step(function(*args, **kwargs))

        return start


def _unrecorded(generator: Any) -> Generator[Any, Any, Any]:
    """The same generator or coroutine, inside no_grad while it runs, but not while its caller does."""
    resume, value = generator.send, None
    while True:
        try:
            with no_grad():
                result = resume(value)
        except StopIteration as end:
            return end.value
        try:
            resume, value = generator.send, (yield result)
        except GeneratorExit:
            with no_grad():
                generator.close()
            raise
        except BaseException as error:
            resume, value = generator.throw, error
