"""Lists, tuples and dicts of tensors, nested: what functions take and return."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


def leaves(
    value: Any, path: str = "", is_leaf: Callable[[Any], bool] = lambda value: False
) -> Iterator[tuple[str, Any]]:
    """(path, leaf) for everything in value that is no list, tuple or dict; a path is written `[0]['loss']`."""
    if is_leaf(value) or not isinstance(value, (list, tuple, Mapping)):
        yield path, value
        return
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from leaves(item, f"{path}[{key!r}]", is_leaf)


def rebuilt(value: Any, items: Iterator[Any], is_leaf: Callable[[Any], bool] = lambda value: False) -> Any:
    """The same structure, its leaves replaced by the next of `items`, in the order of `leaves`."""
    if is_leaf(value) or not isinstance(value, (list, tuple, Mapping)):
        return next(items)
    if isinstance(value, Mapping):
        return {key: rebuilt(item, items, is_leaf) for key, item in value.items()}
    parts = [rebuilt(item, items, is_leaf) for item in value]
    if hasattr(value, "_fields"):  # a namedtuple
        return type(value)(*parts)
    return parts if isinstance(value, list) else tuple(parts)


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The same structure of function(leaf)."""
    return rebuilt(value, (function(leaf) for _, leaf in leaves(value)))


def holds_no_array(value: Any) -> bool:
    """Whether no tensor or array, of whichever library, is in it."""
    return not any(is_array_like(leaf) for _, leaf in leaves(value))


def is_array_like(value: Any) -> bool:
    """Whether value is a tensor or array, of whichever library; not so for NumPy's scalars."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, (type, np.generic))


def dtype_name(array: Any) -> str:
    """The name of the dtype as NumPy has it: "float32", whichever library the array belongs to."""
    return getattr(array.dtype, "name", None) or str(array.dtype).removeprefix("torch.")


def described(value: Any) -> str:
    """The type of a value, for a message: "a torch.Tensor", "None"."""
    if value is None:
        return "None"
    kind = type(value)
    package = kind.__module__.split(".")[0]
    return with_article(kind.__name__ if package == "builtins" else f"{package}.{kind.__name__}")


def with_article(name: str) -> str:
    """ "an int", "a list"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
