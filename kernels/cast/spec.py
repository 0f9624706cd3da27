"""What tests, gates and benchmarks need to know of cast: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.spec import Bug, Kernel, MachineCode, Sizes, Source, normal


def _arguments(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (P,) and what it becomes: to float16, or to a 16-bit `dtype` from float32."""
    wide = dtype.itemsize > 2
    return normal(rng, dtype if wide else np.float32, s.P), np.float16 if wide else dtype.type


KERNELS = (Kernel("cast", _arguments, (0.0, 0.0)),)  # one rounding, and that the same
GRADIENTS = ()

_WIDE = MachineCode(wide="either", why="a cast moves 128 bits of the wider type, or of both if they are one")
SOURCES = {"cast.cu": Source(kernels=dict.fromkeys(("from_float", "from_double", "to_float", "to_double"), _WIDE))}


def _truncated(right: Callable, x: Array, dtype: npt.DTypeLike) -> Array:
    out = right(x, dtype)
    return np.where(np.abs(out.astype(x.dtype)) > np.abs(x), np.nextafter(out, out.dtype.type(0)), out)


BUGS = (Bug("truncated instead of rounded", "cpu", "cast", _truncated),)
