"""What `gradcheck` knows of each library, in a file each; chosen by the type of the inputs, without importing any."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigrad.gradient_checking.arrays import Arrays, NumpyArrays, library_of
from minigrad.gradient_checking.libraries.jax_functions import JaxProbe
from minigrad.gradient_checking.libraries.minigrad_functions import MinigradProbe
from minigrad.gradient_checking.libraries.pairs import PairProbe
from minigrad.gradient_checking.libraries.torch_functions import TorchProbe
from minigrad.gradient_checking.on_device import on_device
from minigrad.gradient_checking.probe import Probe
from minigrad.gradient_checking.structures import described, is_array_like, leaves
from minigrad.nn import Module

PROBES = {"PyTorch": TorchProbe, "JAX": JaxProbe}


def probe_of(fn: Any, inputs: Any, device: str = "cpu") -> Probe:
    """The Probe for a function, or pair of functions, and its inputs. Raises TypeError for what cannot be checked."""
    named = _named(inputs)
    arrays = _library(named)
    if isinstance(fn, (tuple, list)):
        if len(fn) != 2 or not all(map(callable, fn)):
            raise TypeError(f"fn is {described(fn)} of {len(fn)}; expected a function, or a pair (forward, vjp)")
        if arrays is not None and arrays.library == "minigrad":
            raise TypeError("a pair (forward, vjp) takes plain arrays; the inputs are minigrad Tensors")
        _no_device(device, "a pair (forward, vjp)")
        return PairProbe(fn, named, arrays or NumpyArrays(np.zeros(0)))
    if not callable(fn):
        raise TypeError(f"fn is {described(fn)}; expected a function, or a pair (forward, vjp)")
    _refuse_class(fn)
    if arrays is None or arrays.library == "minigrad":
        return MinigradProbe(fn if device == "cpu" else on_device(fn, device), named)
    if arrays.library not in PROBES:
        raise TypeError(
            f"{arrays.library} arrays have no backward: give a pair (forward, vjp) in place of fn; only NumPy arrays "
            "become minigrad Tensors"
        )
    _no_device(device, f"{arrays.library}'s function")
    return PROBES[arrays.library](fn, named, arrays)


def _named(inputs: Any) -> dict[str, Any]:
    """The inputs as a dict of names."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if is_array_like(inputs):
        inputs = [inputs]
    if not hasattr(inputs, "__iter__") or isinstance(inputs, (str, bytes)):
        raise TypeError(
            f"inputs is {described(inputs)}; expected arrays or tensors in a list, a tuple or a dict of names"
        )
    return {f"input {i}": x for i, x in enumerate(inputs)}


def _library(named: dict[str, Any]) -> Arrays | None:
    """The one library whose arrays are among the inputs; None if there are no others than NumPy's."""
    found: dict[str, tuple[Arrays, str]] = {}
    for name, value in named.items():
        for path, leaf in leaves(value, name):
            if isinstance(leaf, np.ma.MaskedArray):
                raise TypeError(f"{path} is a masked array; give its numbers, as filled() or compressed() returns them")
            arrays = library_of(leaf)
            if arrays is not None and arrays.library != "NumPy":
                found.setdefault(arrays.library, (arrays, path))
    if len(found) > 1:
        where = " and ".join(f"{library} ({path})" for library, (_, path) in found.items())
        raise TypeError(f"the inputs belong to {where}; no gradient passes from one library to another")
    return next(iter(found.values()))[0] if found else None


def _no_device(device: str, what: str) -> None:
    if device != "cpu":
        raise TypeError(f"device={device!r} moves minigrad Tensors; {what} gets its inputs where they are")


def _refuse_class(fn: Callable[..., Any]) -> None:
    """TypeError for a class in the place of its `apply`, or of a module of that class."""
    torch = sys.modules.get("torch")
    if isinstance(fn, type) and torch and issubclass(fn, torch.autograd.Function):
        raise TypeError(f"fn is the class {fn.__name__}; give {fn.__name__}.apply")
    if isinstance(fn, type) and (issubclass(fn, Module) or (torch and issubclass(fn, torch.nn.Module))):
        raise TypeError(f"fn is the class {fn.__name__}; give a module, as {fn.__name__}(...) makes one")
