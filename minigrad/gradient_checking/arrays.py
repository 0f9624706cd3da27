"""The arrays of each library: which are its own, their values as float64 on the host, and new ones like them.

A library is found in sys.modules: whoever has one of its arrays has imported it.
"""

import sys
from typing import Any, Literal

import numpy as np

from kernels.arrays import is_array, on_host
from minigrad._tensor import Tensor
from minigrad.gradient_checking.structures import described


class Arrays:
    """library: its name; kind: a description of its arrays, both for messages."""

    library, kind = "", ""

    def owns(self, value: Any) -> bool:
        """Whether value is an array of this library."""
        raise NotImplementedError

    def host(self, array: Any) -> np.ndarray:
        """A copy of its values, float64 and on the host."""
        raise NotImplementedError

    def like(self, values: np.ndarray, array: Any) -> Any:
        """A new array that holds `values`, with the dtype, device and, where that can be, the strides of `array`."""
        raise NotImplementedError


class MinigradTensors(Arrays):
    library, kind = "minigrad", "a minigrad.Tensor"

    def owns(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def host(self, array: Any) -> np.ndarray:
        return np.array(on_host(array.data), dtype=np.float64)


class NumpyArrays(Arrays):
    """Arrays that take part in NumPy's functions: NumPy's own, CuPy's, the simulator's."""

    def __init__(self, array: Any) -> None:
        self.type = np.ndarray if isinstance(array, np.ndarray) else type(array)
        package = self.type.__module__.split(".")[0]
        self.library = {"numpy": "NumPy", "cupy": "CuPy"}.get(package, package)
        self.kind = described(array)

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.type) and not isinstance(value, np.ma.MaskedArray)

    def host(self, array: Any) -> np.ndarray:
        return np.array(on_host(array), dtype=np.float64)

    def like(self, values: np.ndarray, array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            flags = array.flags
            order: Literal["F", "C"] = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
            return np.asarray(np.asarray(values, dtype=array.dtype, order=order), like=array)
        new = np.empty_like(array)
        new[...] = values
        return new


class TorchTensors(Arrays):
    library, kind = "PyTorch", "a torch.Tensor"

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.torch.Tensor)

    def host(self, array: Any) -> np.ndarray:
        return array.detach().to("cpu", self.torch.float64, copy=True).numpy()

    def like(self, values: np.ndarray, array: Any) -> Any:
        torch = self.torch
        with torch.no_grad():
            dense = array.detach()
            if _is_free_of_overlap(dense):  # a kernel that ignores strides must be seen to do so
                new = torch.empty_strided(dense.shape, dense.stride(), dtype=dense.dtype, device=dense.device)
            else:
                new = torch.empty(dense.shape, dtype=dense.dtype, device=dense.device)
            return new.copy_(torch.from_numpy(np.array(values)))


class JaxArrays(Arrays):
    library, kind = "JAX", "a jax.Array"

    def __init__(self, jax: Any) -> None:
        self.jax = jax

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.jax.Array)

    def host(self, array: Any) -> np.ndarray:
        return np.array(array, dtype=np.float64)

    def like(self, values: np.ndarray, array: Any) -> Any:
        return self.jax.device_put(np.asarray(values, dtype=array.dtype), array.sharding)


def library_of(value: Any) -> Arrays | None:
    """The library that value is an array of, or None."""
    if isinstance(value, Tensor):
        return MinigradTensors()
    if (torch := sys.modules.get("torch")) and isinstance(value, getattr(torch, "Tensor", ())):
        return TorchTensors(torch)
    if (jax := sys.modules.get("jax")) and isinstance(value, getattr(jax, "Array", ())):
        return JaxArrays(jax)
    return NumpyArrays(value) if is_array(value) else None


def _is_free_of_overlap(tensor: Any) -> bool:
    """Whether no two elements of a strided tensor can share memory: each stride spans all smaller ones."""
    span = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < span:
                return False
            span = stride * size
    return True
