"""Decorators for operations: NumPy's keywords beside PyTorch's, and one name for a function of each library.

How these are hinted. A function with optional PyTorch keywords ends its parameters with NumPy's,
`**numpy: Unpack[AxisKeepdims]` (a TypedDict of `argument_types`, or one beside the function); a type checker then takes
`axis=` and `keepdims=` of that type, and no other. The dict is always empty when the function runs: the decorator has
renamed what was in it. `inspect.signature` shows NumPy's keywords by name.

Where a renamed argument is required, or the result's type depends on the keyword, the function has one
`typing.overload` for each library instead; `numpy_keywords(overloads=True, ...)` and `two_meanings` leave the checking
of calls to these:

    @overload
    def max(input: TensorLike, dim: int, keepdim: bool = False) -> ValuesAndIndices: ...
    @overload
    def max(input: TensorLike, *, axis: Axes, keepdims: bool = False) -> Tensor: ...
    @two_meanings(_numpy_max, _whose_extremum)
    def max(input: TensorLike, dim: Any = None, keepdim: bool = False) -> Tensor | ValuesAndIndices:
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numpy as np

from minigrad.ambiguous import refuse

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")
REDUCTION = {"axis": "dim", "keepdims": "keepdim"}  # NumPy's name: PyTorch's
NO_AXES = range(0)  # NumPy's axis=(): over none. PyTorch's dim=() means over all


def is_empty_tuple(axes: Any) -> bool:
    """Whether axes is (); `axes == ()` would compare an array, or a number of NumPy's, element by element."""
    return axes.__class__ is tuple and not axes


@overload
def numpy_keywords(
    *, overloads: Literal[True], **torch_names: str
) -> Callable[[Callable[..., Result]], Callable[..., Result]]: ...
@overload
def numpy_keywords(**torch_names: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]: ...
def numpy_keywords(*, overloads: Any = False, **torch_names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The operation, which has PyTorch's keywords, takes NumPy's as well: numpy_keywords(axis="dim").

    TypeError if both are given. overloads: see above, nothing to the running function.
    """

    def decorate(op: Callable[..., Any]) -> Callable[..., Any]:
        known = _with_numpy_names(op, torch_names)

        @functools.wraps(op)
        def spelled(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                kwargs = _renamed(op.__name__, kwargs, torch_names, known)
            return op(*args, **kwargs)

        return spelled

    return decorate


def _with_numpy_names(op: Any, torch_names: dict[str, str]) -> set[str]:
    """Show NumPy's keywords by name in op's signature, in the place of `**numpy`. Returns the keywords of op itself."""
    signature, keywords = inspect.signature(op), _keywords(op)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(own) < len(signature.parameters):
        of_torch = [(name, signature.parameters[torch_name]) for name, torch_name in torch_names.items()]
        of_numpy = [p.replace(name=name, kind=p.KEYWORD_ONLY) for name, p in of_torch]
        op.__signature__ = signature.replace(parameters=[*own, *of_numpy])
    return keywords


def _keywords(op: Callable[..., Any]) -> set[str]:
    """What may be given by keyword, without the names that only the decorator takes."""
    parameters = inspect.signature(op).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _renamed(name: str, kwargs: dict[str, Any], torch_names: dict[str, str], known: set[str]) -> dict[str, Any]:
    for numpy_name in torch_names.keys() & kwargs.keys():
        torch_name = torch_names[numpy_name]
        if torch_name in kwargs:
            raise TypeError(f"{name}: give {numpy_name} or {torch_name}, not both")
        value = kwargs.pop(numpy_name)
        kwargs[torch_name] = NO_AXES if numpy_name == "axis" and is_empty_tuple(value) else value
    if kwargs.get("out", NO_AXES) is None:  # np.sum(x) says x.sum(axis=None, out=None)
        del kwargs["out"]
    unknown = kwargs.keys() - known
    if unknown:
        raise TypeError(f"{name}() got an unexpected keyword argument {min(unknown)!r}")
    return kwargs


def reduction(op: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A reduction (x, dim, keepdim, ...) also takes NumPy's `axis` and `keepdims`. An empty tuple must be named."""
    known = _with_numpy_names(op, REDUCTION)

    @functools.wraps(op)
    def spelled(*args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 and is_empty_tuple(args[1]):
            refuse(op.__name__, "all_axes")
        if len(args) > 2 and not isinstance(args[2], (bool, np.bool_)):  # NumPy's dtype stands here
            raise TypeError(f"{op.__name__}: keepdim is {args[2]!r}, expected True or False; say dtype= for a dtype")
        if kwargs:
            kwargs = _renamed(op.__name__, kwargs, REDUCTION, known)
        return op(*args, **kwargs)

    return spelled


def two_meanings(
    numpy_op: Callable[..., Any], meaning: Callable[..., str | None]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated operation is PyTorch's, `numpy_op` NumPy's of the same name, told apart by what only one can take.

    A keyword that only one of them has decides, else meaning(*args, **kwargs): "torch", "numpy", or None for a call
    that is ambiguous, which is refused. Where both give the same result, it may say either.
    """

    def decorate(torch_op: Callable[..., Any]) -> Callable[..., Any]:
        torch, numpy = _keywords(torch_op), _keywords(numpy_op)

        @functools.wraps(torch_op)
        def chosen(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("out", NO_AXES) is None:
                del kwargs["out"]
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

        own = inspect.signature(torch_op)  # shown are NumPy's keywords too, but not its name for the array
        _, *others = inspect.signature(numpy_op).parameters.values()
        added = [p.replace(kind=p.KEYWORD_ONLY) for p in others if p.name in numpy - torch]
        chosen.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
        return chosen

    return decorate
