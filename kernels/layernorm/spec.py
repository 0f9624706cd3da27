"""What tests, gates and benchmarks need to know of layernorm: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import Bug, Gradient, Kernel, Sizes, Source, accum, normal, normals


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, C), weight (C,), bias (C,), eps."""
    return normal(rng, dtype, s.N, s.C), normal(rng, dtype, s.C), normal(rng, dtype, s.C), 1e-5


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout (N, C), x (N, C), weight (C,), mean (N,), rstd (N,), dresidual (N, C)."""
    x, weight, _, eps = _forward(s, rng, dtype)
    wide = x.astype(np.float64)
    statistics = wide.mean(axis=-1), 1.0 / np.sqrt(wide.var(axis=-1) + eps)
    mean, rstd = (each.astype(accum(dtype)) for each in statistics)
    return normal(rng, dtype, s.N, s.C), x, weight, mean, rstd, normal(rng, dtype, s.N, s.C)


KERNELS = (
    Kernel("layernorm_forward", _forward, (5e-7, 2e-15)),
    Kernel("layernorm_backward", _backward, (6e-7, 6e-15)),
)
GRADIENTS = (Gradient("layernorm", "bias", normals((5, 7), (7,), (7,)), {"eps": 0.1}),)


def _variants(dtype: np.dtype) -> list[dict[str, int]]:
    """What the launcher compiles for rows of 512 and of 1024 times 128 bits."""
    from kernels.cuda.rows import row_kernel, vec

    file, n = "layernorm/layernorm.cu", vec(dtype)
    found = (row_kernel(file, "layernorm_forward", count * n, n)[0].defines for count in (512, 1024))
    return [dict(items) for items in dict.fromkeys(tuple(defines.items()) for defines in found)]


SOURCES = {"layernorm.cu": Source(variants=_variants)}


def _without(mean: float, projection: float) -> Callable:
    """dx with one of its two terms taken away."""

    def change(
        right: Callable, dout: Array, x: Array, weight: Array, mean_: Array, rstd: Array, dresidual: Array | None = None
    ) -> tuple:
        _, dweight, dbias = right(dout, x, weight, mean_, rstd)
        xhat, dxhat = (x - mean_[..., None]) * rstd[..., None], dout * weight
        dx = dxhat - mean * dxhat.mean(axis=-1, keepdims=True)
        dx = dx - projection * xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx = dx * rstd[..., None]
        return dx if dresidual is None else dx + dresidual, dweight, dbias

    return change


def _eps_outside_the_root(right: Callable, x: Array, weight: Array, bias: Array | None, eps: float) -> tuple:
    _, mean, _ = right(x, weight, bias, eps)
    rstd = (1.0 / (x.std(axis=-1) + eps)).astype(x.dtype)
    return (x - mean[..., None]) * rstd[..., None] * weight + bias, mean, rstd


def _first_row_as_dweight(right: Callable, *args: Array) -> tuple:
    dx, _, dbias = right(*args)
    dout, x, _, mean, rstd, *_ = args
    return dx, (dout * (x - mean[..., None]) * rstd[..., None]).reshape(-1, x.shape[-1])[0], dbias


BUGS = (
    Bug("eps outside the root", "reference", "layernorm_forward", _eps_outside_the_root, "layernorm", "wrong term"),
    Bug("eps outside the root", "cpu", "layernorm_forward", _eps_outside_the_root, "layernorm", "wrong term"),
    Bug("mean of dxhat forgotten", "reference", "layernorm_backward", _without(0, 1), "layernorm",
        "mean not subtracted"),
    Bug("component along xhat forgotten", "reference", "layernorm_backward", _without(1, 0), "layernorm", "wrong term"),
    Bug("weight gradient from the first row alone", "cpu", "layernorm_backward", _first_row_as_dweight, "layernorm",
        "missing broadcast sum"),
    Bug("gradient past the norm forgotten", "cpu", "layernorm_backward",
        lambda right, dout, x, weight, mean, rstd, dresidual=None: right(dout, x, weight, mean, rstd), "layernorm"),
)  # fmt: skip
