"""Decorators for operations: NumPy's keywords beside PyTorch's, and one name for a function of each library."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from minigrad.ambiguous import refuse

Result = TypeVar("Result")
NO_AXES = range(0)  # NumPy's axis=(): over none. PyTorch's dim=() means over all


def numpy_keywords(**torch_names: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """The operation, which has PyTorch's keywords, takes NumPy's as well: numpy_keywords(axis="dim").

    TypeError if both are given.
    """

    def decorate(op):
        @functools.wraps(op)
        def spelled(*args, **kwargs):
            if kwargs:
                kwargs = _renamed(op.__name__, kwargs, torch_names)
            return op(*args, **kwargs)

        return spelled

    return decorate


def _renamed(name, kwargs, torch_names):
    for numpy_name in torch_names.keys() & kwargs.keys():
        torch_name = torch_names[numpy_name]
        if torch_name in kwargs:
            raise TypeError(f"{name}: give {numpy_name} or {torch_name}, not both")
        kwargs[torch_name] = kwargs.pop(numpy_name)
    return kwargs


def reduction(op: Callable[..., Result]) -> Callable[..., Result]:
    """A reduction (x, dim, keepdim, ...) also takes NumPy's `axis` and `keepdims`. An empty tuple must be named."""

    @functools.wraps(op)
    def spelled(*args, **kwargs):
        if len(args) > 1 and args[1].__class__ is tuple and not args[1]:
            refuse(op.__name__, "all_axes")
        if len(args) > 2 and not isinstance(args[2], (bool, np.bool_)):  # NumPy's dtype stands here
            raise TypeError(f"{op.__name__}: keepdim is {args[2]!r}, expected True or False; say dtype= for a dtype")
        if kwargs:
            if kwargs.get("axis") == ():
                kwargs["axis"] = NO_AXES
            kwargs = _renamed(op.__name__, kwargs, {"axis": "dim", "keepdims": "keepdim"})
        return op(*args, **kwargs)

    return spelled


def two_meanings(
    numpy_op: Callable[..., Any], meaning: Callable[..., str | None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated operation is PyTorch's, `numpy_op` NumPy's of the same name, told apart by what only one can take.

    A keyword that only one of them has decides, else meaning(*args, **kwargs): "torch", "numpy", or None for a call
    that is ambiguous, which is refused. Where both give the same result, it may say either.
    """

    def decorate(torch_op):
        torch, numpy = (set(inspect.signature(op).parameters) for op in (torch_op, numpy_op))

        @functools.wraps(torch_op)
        def chosen(*args, **kwargs):
            of_torch, of_numpy = kwargs.keys() & (torch - numpy), kwargs.keys() & (numpy - torch)
            if of_torch and of_numpy:
                raise TypeError(
                    f"{torch_op.__name__}: {min(of_torch)}= is PyTorch's keyword and {min(of_numpy)}= is NumPy's; "
                    "give those of one library"
                )
            unknown = kwargs.keys() - torch - numpy
            if unknown:
                raise TypeError(f"{torch_op.__name__}() got an unexpected keyword argument {min(unknown)!r}")
            which = "torch" if of_torch else "numpy" if of_numpy else meaning(*args, **kwargs)
            if which is None:
                refuse(torch_op.__name__)
            return (torch_op if which == "torch" else numpy_op)(*args, **kwargs)

        return chosen

    return decorate
