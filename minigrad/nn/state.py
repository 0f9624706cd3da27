"""Loading of arrays into parameters and buffers: what fits, and what is said about the rest."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernels.arrays import Array, is_array
from kernels.system.printable import one_line
from minigrad._tensor import Tensor
from minigrad.graph import mark_written


class LoadedKeys(NamedTuple):
    """What `load_state_dict` returns."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class LoadError(RuntimeError, ValueError):
    """A state that does not fit a module: PyTorch's RuntimeError, and the ValueError of earlier versions."""


def load(module: str, own: Mapping[str, Tensor], state_dict: Mapping[str, Any], strict: bool) -> LoadedKeys:
    """Copy arrays into the tensors `own` of the same names; see `Module.load_state_dict`. module: what to call it."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"load_state_dict: state_dict is a {type(state_dict).__name__}; expected a dict, as state_dict() gives it"
        )
    state = {name: _as_array(value) for name, value in state_dict.items()}
    keys = LoadedKeys([name for name in own if name not in state], [name for name in state if name not in own])
    problems = []
    if strict:
        problems += [f"missing {name}" for name in keys.missing_keys]
        problems += [f"unexpected {one_line(name)}" for name in keys.unexpected_keys]
    problems += [
        f"{name} {problem}"
        for name, tensor in own.items()
        if name in state and (problem := misfit(state[name], tensor.data))
    ]
    if problems:
        raise LoadError(f"cannot load these weights into {module}: " + "; ".join(problems))
    arrays = {name: copyable(state[name], tensor.data) for name, tensor in own.items() if name in state}
    for name, array in arrays.items():
        own[name].data[...] = array
        mark_written(own[name].data)
    return keys


def _as_array(value: Any) -> Any:
    """The array of a Tensor, or of another library's tensor on the host; anything else as it is."""
    if isinstance(value, Tensor):
        return value.data
    if is_array(value) or not hasattr(value, "__array__"):
        return value
    return np.asarray(value)


def misfit(array: Any, into: Array) -> str | None:
    """What keeps `array` from being copied into the array `into`, in words; None if nothing does."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        return f"is a {type(array).__name__}, expected an array"
    if tuple(array.shape) != into.shape:
        return f"has shape {tuple(array.shape)}, expected {into.shape}"
    if not np.can_cast(array.dtype, into.dtype, "same_kind"):
        return f"holds {array.dtype}, expected {into.dtype}"
    return None


def copyable(array: Array, into: Array) -> Array:
    """`array` with the dtype of `into` and where that is: what is left to do cannot fail."""
    return np.asarray(array, dtype=into.dtype, like=into)
