"""What an op's `spec.py` says, once; tests, tables, gates and benchmarks on every backend are made from it.

    KERNELS     a Kernel for each: sample arguments, tolerances, cost
    GRADIENTS   a Gradient for each sample call of an operation of `minigrad` that needs these kernels
    SOURCES     file name -> Source: how a .cu is compiled, and what is expected of its machine code
    BUGS        a Bug for each error that the checks must catch

A spec imports NumPy, `kernels.arrays` and this module alone; what needs more imports it when it is called.
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Variants: TypeAlias = Callable[[np.dtype], list[dict[str, int]]]
Build: TypeAlias = Callable[[np.random.Generator], Sequence[np.ndarray]]  # makes the arrays of a sample call

IGNORE = 3  # the target that cross-entropy leaves out


class Sizes(NamedTuple):
    """Of one layer: N = B * T rows, C channels, H heads of size C / H, V words, P parameters of the model."""

    B: int
    T: int
    C: int
    H: int
    V: int
    P: int
    p: float = 0.0  # dropout of attention's probabilities

    @property
    def N(self) -> int:
        return self.B * self.T


#: of no whole number of vectors, tiles or chunks, and several of each
RAGGED = Sizes(B=2, T=130, C=70, H=2, V=71, P=40000, p=0.3)


class Kernel(NamedTuple):
    """One kernel, the same on every backend.

    arguments(sizes, rng, dtype) -> its positional arguments: NumPy arrays whose floats are of `dtype` (sums beside
    16-bit arrays: of `accum(dtype)`), and numbers. flops(sizes): of matrix products, a multiplication and an addition
    counted as two.
    """

    name: str
    arguments: Callable[[Sizes, np.random.Generator, np.dtype], Sequence[Any]]
    tolerance: tuple[float, float]  # largest error in float32, float64: about three times the largest one measured
    flops: Callable[[Sizes], int] = lambda s: 0
    written: tuple[int, ...] = ()  # arguments that are read and written over; not empty: the kernel works in place
    unread: tuple[int, ...] = ()  # which are only written, or of which only as much is read as comes out
    blas: bool = False  # whether cuBLAS does most of the work


class Gradient(NamedTuple):
    """A sample call minigrad.ops.OP(*arrays, **keywords); build(rng) -> the arrays, floats in float64.

    torch(t, *tensors): the same in PyTorch, the module t; None where it has no such function.
    """

    op: str
    case: str
    build: Build
    keywords: dict[str, Any] = {}  # noqa: RUF012  never changed
    torch: Callable[..., Any] | None = None


class MachineCode(NamedTuple):
    """What must be found in the machine code of one CUDA kernel.

    wide: what moves 128 bits at a time, "loads" (LDG.E.128), "stores" (STG.E.128), "both", "either" or "none".
    """

    wide: str = "both"
    threads: int = 256  # of the largest block it is launched with, if the source has no __launch_bounds__
    opcodes: tuple[str, ...] = ()  # that must occur, by the beginning of their names
    local_outside_loops: bool = False  # local memory may be touched before and after the loops, never in one
    why: str = ""  # a reason for each demand that is dropped


SUMS = MachineCode(wide="loads", why="writes a number a row or a block")
FEW = MachineCode(wide="none", why="a few numbers beside the arrays")


class Source(NamedTuple):
    """How one .cu file is compiled, and its kernels where they differ from MachineCode()."""

    types: tuple[str, ...] = ("float32", "float64", "float16", "bfloat16")
    oldest: int = 75  # compute capability
    variants: Variants = lambda dtype: [{}]  # further macros for a storage type
    kernels: dict[str, MachineCode] = {}  # noqa: RUF012  never changed

    def of(self, kernel: str) -> MachineCode:
        """What is expected of a kernel, by its name."""
        return self.kernels.get(kernel, MachineCode())


class Bug(NamedTuple):
    """A seeded bug: change(right, *args, **kwargs) takes the place of a kernel, `right`, in one backend.

    gradient: the operation whose gradient shows it, "" where none does. cause: what the explanation should say; ""
    where it is not a kind of error that a pattern could tell.
    """

    name: str
    backend: str  # "reference" or "cpu"
    kernel: str  # or another function of that module, of its beginning with "_"
    change: Callable[..., Any]
    gradient: str = ""
    cause: str = ""


def specs() -> dict[str, ModuleType]:
    """{op: its module spec}."""
    kernels = importlib.import_module("kernels")
    return {op: importlib.import_module(f"kernels.{op}.spec") for op in kernels.OPS}


def kernels() -> dict[str, Kernel]:
    """{name: Kernel} of all ops."""
    return {kernel.name: kernel for spec in specs().values() for kernel in spec.KERNELS}


# --------------------------------------------------------------------------------------------- sample arrays


def accum(dtype: npt.DTypeLike) -> np.dtype:
    """The dtype of sums over `dtype`."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def normal(rng: np.random.Generator, dtype: npt.DTypeLike, *shape: int) -> np.ndarray:
    """Standard normal numbers; a large array repeats the first 65536 of them, since only its size matters."""
    n = int(np.prod(shape))
    return np.resize(rng.standard_normal(min(n, 1 << 16)).astype(dtype), shape)


def normals(*shapes: tuple[int, ...]) -> Build:
    """build(rng) of a Gradient: standard normal arrays of these shapes."""
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def and_then(build: Build, *more: npt.ArrayLike) -> Build:
    """build(rng) of a Gradient: the arrays of `build`, then these."""
    return lambda rng: [*build(rng), *map(np.asarray, more)]
