"""What tests, gates and benchmarks need to know of gelu: see `kernels.spec`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.arrays import Array
from kernels.gelu.reference import _normal_cdf
from kernels.spec import Bug, Gradient, Kernel, Sizes, Source, normal, normals


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, 4 C), form."""
    return normal(rng, dtype, s.N, 4 * s.C), "tanh"


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    return normal(rng, dtype, s.N, 4 * s.C), *_forward(s, rng, dtype)


KERNELS = (
    Kernel("gelu_forward", _forward, (3e-7, 5e-16)),
    # loose: tanh form, 1 - sigmoid cancels and meets x * (1 + 3 * 0.0447 * x^2)
    Kernel("gelu_backward", _backward, (4e-6, 3e-14)),
)
GRADIENTS = (
    Gradient("gelu", "erf", normals((5, 3))),
    Gradient("gelu", "tanh", normals((5, 3)), {"approximate": "tanh"}),
)
SOURCES: dict[str, Source] = {}


def _another_cubic(right: Callable, x: Array, approximate: str) -> Array:
    return right(x, approximate) - (1e-4 * x**3 if approximate == "tanh" else 0)


def _half_precision(right: Callable, dout: Array, x: Array, *setting: Any) -> Array:
    if x.dtype == np.float32:
        return right(dout, x.astype(np.float16).astype(np.float32), *setting)
    return right(dout, x, *setting)


BUGS = (
    Bug("cubic constant of 0.044", "cpu", "gelu_forward", _another_cubic, "gelu", "wrong term"),
    Bug("density forgotten", "reference", "gelu_backward",
        lambda right, dout, x, *_: dout * _normal_cdf(x), "gelu", "wrong term"),
    Bug("half precision inside float32", "cpu", "gelu_backward", _half_precision, "gelu"),
)  # fmt: skip
