"""What tests, gates and benchmarks need to know of linear_cross_entropy: see `kernels.spec`."""

import numpy as np

from kernels.spec import IGNORE, Bug, Gradient, Kernel, Sizes, Source, accum, and_then, normal, normals


def _head(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """weight (V, C), of the size that makes logits of about 1: larger ones have denormal gradients, which are slow."""
    return (normal(rng, np.float32, s.V, s.C) * s.C**-0.5).astype(dtype)


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, C), weight (V, C), targets (N,), the target to ignore, reduction, grad_scale, with_grads."""
    targets = rng.integers(0, s.V, s.N)
    return normal(rng, dtype, s.N, s.C), _head(s, rng, dtype), targets, IGNORE, "mean", 0.7, True


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout (), dx (N, C), dweight (V, C), grad_scale."""
    return np.asarray(0.7, accum(dtype)), normal(rng, dtype, s.N, s.C), normal(rng, dtype, s.V, s.C), 2.0


KERNELS = (
    # as of its products
    Kernel("linear_cross_entropy_forward", _forward, (1.5e-6, 5e-15), lambda s: 6 * s.N * s.C * s.V, blas=True),
    Kernel("linear_cross_entropy_backward", _backward, (2e-7, 4e-16)),
)
_HEAD = normals((5, 3), (7, 3))
GRADIENTS = (
    Gradient("linear_cross_entropy", "ignored", and_then(_HEAD, [1, -100, 6, -100, 0])),
    Gradient("linear_cross_entropy", "sum", and_then(_HEAD, [1, 3, 6, 2, 0]), {"reduction": "sum", "grad_scale": 0.25}),
)
SOURCES: dict[str, Source] = {}
BUGS = (
    Bug("targets of another token", "cpu", "linear_cross_entropy_forward",
        lambda right, x, weight, targets, *a: right(x, weight, np.roll(targets, 1), *a)),
    Bug("gradient scale applied twice", "reference", "linear_cross_entropy_forward",
        lambda right, *a: (right(*a)[0], *(a[5] * d for d in right(*a)[1:]))),
    Bug("gradient scale not taken out", "cpu", "linear_cross_entropy_backward",
        lambda right, dout, dx, dweight, grad_scale, *a: right(dout, dx, dweight, 1.0, *a)),
)  # fmt: skip
