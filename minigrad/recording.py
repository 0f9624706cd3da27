"""no_grad, inside of which this thread records nothing; gradients_aside, which hides the gradients of leaves."""

import functools
import inspect
import types
from collections.abc import Generator, Iterable, Iterator
from contextlib import ContextDecorator, contextmanager
from typing import TYPE_CHECKING, Any

from minigrad.argument_types import Function
from minigrad.graph import thread

if TYPE_CHECKING:
    from minigrad._tensor import Tensor


class no_grad(ContextDecorator):
    """Record nothing in this thread inside: a `with` block or, as `@no_grad()`, a function, coroutine or generator."""

    if not TYPE_CHECKING:

        def __new__(cls, function=None):
            """`@no_grad` without () decorates the function, too."""
            made = super().__new__(cls)
            return made if function is None else made(function)

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


@contextmanager
def gradients_aside(leaves: "Iterable[Tensor]") -> Iterator[None]:
    """Inside, these leaf Tensors have no gradients, and backward writes none into an optimizer's arena.

    Afterwards the gradients are what they were before, whatever was added meanwhile.
    """
    before = [(leaf, leaf.grad, leaf.grad_buffer, leaf._pending) for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.grad = leaf.grad_buffer = leaf._pending = None
        yield
    finally:
        for leaf, grad, buffer, pending in before:
            leaf.grad, leaf.grad_buffer, leaf._pending = grad, buffer, pending
