"""What tests, gates and benchmarks need to know of scale_and_check: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import FEW, Bug, Kernel, Sizes, Source, normal


def _arguments(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """Two arrays, of P elements together, and the scale."""
    return [normal(rng, dtype, s.P - s.P // 3), normal(rng, dtype, s.P // 3)], 0.3


def _without_last(right: Callable, arrays: list[Array], scale: float) -> Array:
    return right([*arrays[:-1], arrays[-1].copy()], scale)


KERNELS = (Kernel("scale_and_check", _arguments, (1.5e-7, 3e-16), written=(0,)),)
GRADIENTS = ()
SOURCES = {"scale_and_check.cu": Source(kernels={"all_finite": FEW})}
BUGS = (Bug("last array left as it was", "cpu", "scale_and_check", _without_last),)
