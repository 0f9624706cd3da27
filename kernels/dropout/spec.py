"""What tests, gates and benchmarks need to know of dropout: see `kernels.spec`."""

import numpy as np

from kernels.spec import Bug, Gradient, Kernel, Sizes, Source, normal, normals


def _arguments(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """x (N, C), p, seed, step, stream."""
    return normal(rng, dtype, s.N, s.C), 0.3, 1, 2, 3


KERNELS = (
    Kernel("dropout_forward", _arguments, (2e-7, 4e-16)),
    Kernel("dropout_backward", _arguments, (2e-7, 4e-16)),
)
GRADIENTS = (Gradient("seeded_dropout", "some", normals((5, 7)), {"p": 0.3, "seed": 3, "step": 5, "stream": 7}),)
SOURCES: dict[str, Source] = {}
BUGS = (
    Bug("forward draws another stream", "cpu", "dropout_forward",
        lambda right, x, p, seed, step, stream: right(x, p, seed, step, stream + 1), "seeded_dropout",
        "mask forgotten"),
    Bug("1 - p for 1 / (1 - p)", "cpu", "dropout_backward", lambda right, *a: right(*a) * np.float32(0.49),
        "seeded_dropout", "scale forgotten"),
)  # fmt: skip
