"""The one way to launch a CUDA kernel: arguments are checked against its signature in the .cu file, then cast.

    _forward = Kernel("layernorm/layernorm.cu", "layernorm_forward")
    _forward.launch(grid, block, out, mean, rstd, x, weight, bias, eps, C, dtype=x.dtype)

A RawKernel would take anything: a strided view would be read as if it were contiguous, a Python float handed to a
`float` would arrive as garbage, and a shorter array would be read past its end. Here each of these raises.
"""

import ctypes
import functools
import importlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array, Shape

Parameters: TypeAlias = tuple[tuple[str, str], ...]  # (type, name) of each, as declared

SOURCES = Path(__file__).parents[1]  # the package `kernels`: a folder for each op, and this folder
#: numpy dtype name -> (macro that selects it as `scalar` in common.cuh, dtype of `accum`)
STORAGE: dict[str, tuple[str, np.dtype]] = {
    "float32": ("SCALAR_F32", np.dtype(np.float32)),
    "float64": ("SCALAR_F64", np.dtype(np.float64)),
    "float16": ("SCALAR_F16", np.dtype(np.float32)),
    "bfloat16": ("SCALAR_BF16", np.dtype(np.float32)),
}
#: device arrays -> the module that holds memory and runs code there: `empty`, `pointer`, `launch`
_DEVICES = {"cupy.ndarray": "kernels.cuda.gpu", "cudasim.array.SimArray": "kernels.cuda.simulated"}
_POINTERS = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned": np.uint32, "long long": np.int64,
    "unsigned char": np.uint8,
}  # fmt: skip
_SCALARS: dict[str, Any] = {
    "float": ctypes.c_float, "double": ctypes.c_double, "int": ctypes.c_int32, "unsigned": ctypes.c_uint32,
    "long long": ctypes.c_int64, "unsigned long long": ctypes.c_uint64,
}  # fmt: skip
_SIGNATURE = r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(([^)]*)\)'


class Kernel:
    """A `__global__` function of a .cu file, for every storage type.

    file: its path below `kernels/`. defines: further macros of this compilation, {"HEAD_SIZE": 64}. Raises LookupError
    if the file has no such kernel.
    """

    def __init__(self, file: str, name: str, **defines: int) -> None:
        self.path, self.name, self.defines = SOURCES / file, name, defines

    @functools.cached_property
    def parameters(self) -> Parameters:
        """((type, name), ...) as declared, e.g. ("const scalar*", "x")."""
        found = signatures(self.path)
        if self.name not in found:
            raise LookupError(f"{self.path.name} has no kernel {self.name!r}; it has {', '.join(found)}")
        return found[self.name]

    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        *args: Any,
        dtype: npt.DTypeLike,
        shared_bytes: int = 0,
    ) -> None:
        """Run on `grid` blocks of `block` threads: ints or tuples of up to three.

        dtype: the storage type, `scalar` in the source. An argument None is a null pointer. TypeError or ValueError,
        before anything runs, for an argument that does not fit the declaration.
        """
        dtype = np.dtype(dtype)
        if dtype.name not in STORAGE:
            raise TypeError(f"{self.name}: no kernels for {dtype}; there are {', '.join(STORAGE)}")
        if len(args) != len(self.parameters):
            names = ", ".join(name for _, name in self.parameters)
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments ({names}), not {len(args)}")
        device = _device_of(self.name, args)
        packed = [
            self._pointer(kind, name, arg, dtype, device)
            if kind.endswith("*")
            else self._scalar(kind, name, arg, dtype)
            for (kind, name), arg in zip(self.parameters, args, strict=True)
        ]
        grid, block = _dim3(grid), _dim3(block)
        if 0 in grid:
            return  # CUDA refuses a grid without blocks
        if math.prod(block) > 1024 or grid[0] >= 2**31 or max(grid[1:]) >= 2**16:
            raise ValueError(f"{self.name}: a grid of {grid} blocks of {block} threads cannot be launched")
        device.launch(self.path, self.name, self.macros(dtype), grid, block, packed, shared_bytes)

    def macros(self, dtype: npt.DTypeLike) -> dict[str, int]:
        """The macros with which the source is compiled, {"SCALAR_F32": 1, ...}."""
        return {STORAGE[np.dtype(dtype).name][0]: 1, **self.defines}

    def _pointer(
        self, kind: str, name: str, array: "Array | Strided | None", dtype: np.dtype, device: ModuleType
    ) -> ctypes.c_void_p:
        """The array as a pointer argument."""
        if array is None:
            return ctypes.c_void_p(0)
        element = kind.removeprefix("const ").removesuffix("*").strip()
        whole = array.array if isinstance(array, Strided) else array
        expected = {"scalar": dtype, "accum": STORAGE[dtype.name][1]}.get(element) or np.dtype(_POINTERS[element])
        if whole.dtype != expected:
            raise TypeError(f"{self.name}: {name} is {whole.dtype}, expected {expected}")
        if whole is array and not whole.flags.c_contiguous:
            raise ValueError(
                f"{self.name}: {name} {whole.shape} is not C-contiguous; the kernel would ignore its strides"
            )
        return ctypes.c_void_p(device.pointer(whole))

    def _scalar(self, kind: str, name: str, value: float, dtype: np.dtype) -> Any:
        """A Python number as the C type that is declared."""
        kind = kind.removeprefix("const ")
        if kind in ("accum", "scalar"):
            kind = "double" if dtype == np.float64 else "float"
        ctype = _SCALARS[kind]
        if isinstance(value, (float, np.floating)) and ctype not in (ctypes.c_float, ctypes.c_double):
            raise TypeError(f"{self.name}: {name} is {value!r}, expected an integer ({kind})")
        packed = ctype(value)
        if isinstance(packed.value, int) and packed.value != value:
            raise OverflowError(f"{self.name}: {name} = {value} does not fit {kind}")
        return packed


class Strided:
    """A view that a kernel takes by the pointer to its first element and its strides.

    strides: of every axis but the last, in elements. ValueError if the last axis has gaps.
    """

    def __init__(self, array: Array) -> None:
        last = array.strides[-1] // array.dtype.itemsize
        if array.shape[-1] > 1 and last != 1:
            raise ValueError(f"the last axis of a view {array.shape} has stride {last}, expected 1: copy it first")
        self.array = array
        self.strides = tuple(stride // array.dtype.itemsize for stride in array.strides[:-1])

    def aligned(self, n: int) -> bool:
        """Whether every row begins at a multiple of n bytes."""
        starts = (_device(self.array).pointer(self.array), *self.array.strides[:-1])
        return all(start % n == 0 for start in starts)


def capability(like: Array) -> int:
    """The compute capability of the device that the array `like` is on, as sm_80 is 80."""
    return _device(like).capability()


def accum_dtype(dtype: npt.DTypeLike) -> np.dtype:
    """The dtype in which sums over arrays of `dtype` are held."""
    return STORAGE[np.dtype(dtype).name][1]


def empty(like: Array, shape: Shape, dtype: npt.DTypeLike | None = None) -> Array:
    """Uninitialised device memory where the array `like` is; dtype: that of `like` unless given."""
    return _device(like).empty(shape, like.dtype if dtype is None else dtype)


def contiguous(x: Array) -> Array:
    """x if it is C-contiguous, else a C-contiguous copy."""
    return x if x.flags.c_contiguous else x.copy()


def blocks(n: int, per_block: int) -> int:
    """How many blocks cover n items."""
    return -(-n // per_block)


@functools.cache
def signatures(path: Path) -> dict[str, Parameters]:
    """{kernel: ((type, name), ...)} of a .cu file."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", Path(path).read_text(encoding="utf-8"), flags=re.S)
    return {
        name: tuple(_parameter(p) for p in parameters.split(",")) for name, parameters in re.findall(_SIGNATURE, text)
    }


def _parameter(declaration: str) -> tuple[str, str]:
    """ "const scalar* __restrict__ x" -> ("const scalar*", "x")"""
    words = declaration.replace("__restrict__", " ").replace("*", "* ").split()
    return " ".join(words[:-1]).replace(" *", "*"), words[-1]


def _device_of(kernel: str, args: Sequence[Any]) -> ModuleType:
    """The device module of the arrays among the arguments; TypeError if they are not all on one device."""
    arrays = [arg.array if isinstance(arg, Strided) else arg for arg in args]
    types: set[type] = {
        type(arg)
        for arg in arrays
        if hasattr(arg, "dtype") and hasattr(arg, "shape") and not isinstance(arg, np.generic)
    }
    if len(types) != 1:
        names = ", ".join(sorted(t.__name__ for t in types)) or "none"
        raise TypeError(f"{kernel}: all arrays must be on one device; got {names}")
    return _device_of_type(types.pop())


def _device(array: Any) -> ModuleType:
    array_type: type = type(array)
    return _device_of_type(array_type)


@functools.cache
def _device_of_type(array_type: type) -> ModuleType:
    name = f"{array_type.__module__}.{array_type.__qualname__}".replace("cupy._core.core", "cupy")
    if name not in _DEVICES:
        raise TypeError(f"no CUDA kernels for arrays of type {name}; expected {' or '.join(_DEVICES)}")
    return importlib.import_module(_DEVICES[name])


def _dim3(size: int | Sequence[int]) -> tuple[int, ...]:
    size = (size,) if isinstance(size, int) else tuple(size)
    return size + (1,) * (3 - len(size))
