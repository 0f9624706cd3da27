"""What tests, gates and benchmarks need to know of linear: see `kernels.spec`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.arrays import Array
from kernels.spec import SUMS, Bug, Gradient, Kernel, Sizes, Source, normal, normals


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, C), weight (4 C, C), bias (4 C,)."""
    return normal(rng, dtype, s.N, s.C), normal(rng, dtype, 4 * s.C, s.C), normal(rng, dtype, 4 * s.C)


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    return normal(rng, dtype, s.N, 4 * s.C), *_forward(s, rng, dtype)


KERNELS = (
    Kernel("linear_forward", _forward, (1.5e-6, 5e-15), lambda s: 2 * s.N * s.C * 4 * s.C, blas=True),
    Kernel("linear_backward", _backward, (1.5e-6, 5e-15), lambda s: 4 * s.N * s.C * 4 * s.C, blas=True),
)
GRADIENTS = (Gradient("linear", "bias", normals((2, 5, 3), (7, 3), (7,))),)
SOURCES = {"linear.cu": Source(kernels={"sum_columns_of_chunks": SUMS})}


def _bias_gradient_of_first_row(
    right: Callable, dout: Array, x: Array, weight: Array, bias: Array | None, into: Any = None
) -> tuple:
    return *right(dout, x, weight, bias, into)[:2], dout.reshape(-1, len(weight))[0]


def _without_last_row(
    right: Callable, dout: Array, x: Array, weight: Array, bias: Array | None, into: Any = None
) -> tuple:
    rows, x_rows = dout.reshape(-1, dout.shape[-1]), x.reshape(-1, x.shape[-1])
    return right(dout, x, weight, bias)[0], *right(rows[:-1], x_rows[:-1], weight, bias)[1:]


BUGS = (
    Bug("bias forgotten", "cpu", "linear_forward", lambda right, x, w, b: right(x, w, None), "linear",
        "no dependence"),
    Bug("bias gradient from the first row alone", "reference", "linear_backward", _bias_gradient_of_first_row, "linear",
        "missing broadcast sum"),
    Bug("last row left out of dweight", "cpu", "linear_backward", _without_last_row, "linear", "overwritten"),
)  # fmt: skip
