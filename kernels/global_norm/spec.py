"""What tests, gates and benchmarks need to know of global_norm: see `kernels.spec`."""

import numpy as np

from kernels.spec import FEW, SUMS, Bug, Kernel, Sizes, Source, normal


def _arguments(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """Two arrays, of P elements together."""
    return ([normal(rng, dtype, s.P - s.P // 3), normal(rng, dtype, s.P // 3)],)


KERNELS = (Kernel("global_norm", _arguments, (2e-15, 2e-15)),)  # float64 whatever the input
GRADIENTS = ()
SOURCES = {"global_norm.cu": Source(kernels={"norms_of_blocks": SUMS, "norm_of_norms": FEW})}
BUGS = (
    Bug("root forgotten", "cpu", "global_norm", lambda right, arrays: right(arrays) ** 2),
    Bug("summed in float32", "reference", "global_norm",
        lambda right, arrays: float(np.sqrt(sum(np.square(a, dtype=np.float32).sum() for a in arrays)))),
)  # fmt: skip
