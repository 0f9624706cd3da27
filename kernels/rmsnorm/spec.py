"""What tests, gates and benchmarks need to know of rmsnorm: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import Bug, Gradient, Kernel, Sizes, Source, accum, normal, normals


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, C), weight (C,), eps."""
    return normal(rng, dtype, s.N, s.C), normal(rng, dtype, s.C), 1e-5


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout (N, C), x (N, C), weight (C,), rstd (N,)."""
    x, weight, eps = _forward(s, rng, dtype)
    rstd = 1.0 / np.sqrt((x.astype(np.float64) ** 2).mean(axis=-1) + eps)
    return normal(rng, dtype, s.N, s.C), x, weight, rstd.astype(accum(dtype))


KERNELS = (
    Kernel("rmsnorm_forward", _forward, (4e-7, 1e-15)),
    Kernel("rmsnorm_backward", _backward, (4e-7, 3e-15)),
)
GRADIENTS = (
    Gradient("rmsnorm", "eps", normals((5, 7), (7,)), {"eps": 0.1},
             lambda t, x, weight: t.nn.functional.rms_norm(x, (7,), weight, 0.1)),
)  # fmt: skip


def _variants(dtype: np.dtype) -> list[dict[str, int]]:
    """What the launcher compiles for rows of 512 and of 1024 times 128 bits."""
    from kernels.cuda.rows import row_kernel, vec
    from kernels.rmsnorm.cuda import SOURCE

    n = vec(dtype)
    found = (row_kernel(SOURCE, "rmsnorm_forward", count * n, n)[0].defines for count in (512, 1024))
    return [dict(items) for items in dict.fromkeys(tuple(defines.items()) for defines in found)]


SOURCES = {"rmsnorm.cu": Source(variants=_variants)}


def _eps_outside_the_root(right: Callable, x: Array, weight: Array, eps: float) -> tuple:
    rstd = (1.0 / (np.sqrt((x * x).mean(axis=-1)) + eps)).astype(x.dtype)
    return x * rstd[..., None] * weight, rstd


def _projection_forgotten(right: Callable, dout: Array, x: Array, weight: Array, rstd: Array) -> tuple:
    return dout * weight * rstd[..., None], right(dout, x, weight, rstd)[1]


def _last_row_as_dweight(right: Callable, dout: Array, x: Array, weight: Array, rstd: Array) -> tuple:
    dx, _ = right(dout, x, weight, rstd)
    return dx, (dout * x * rstd[..., None]).reshape(-1, x.shape[-1])[-1]


BUGS = (
    Bug("eps outside the root", "reference", "rmsnorm_forward", _eps_outside_the_root, "rmsnorm", "wrong term"),
    Bug("eps outside the root", "cpu", "rmsnorm_forward", _eps_outside_the_root, "rmsnorm", "wrong term"),
    Bug("component along xhat forgotten", "reference", "rmsnorm_backward", _projection_forgotten, "rmsnorm",
        "wrong term"),
    Bug("weight gradient from the last row alone", "cpu", "rmsnorm_backward", _last_row_as_dweight, "rmsnorm",
        "missing broadcast sum"),
)  # fmt: skip
