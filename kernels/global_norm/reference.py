"""The norm of a list of arrays in plain array code: the reference for the fast kernels."""

import math
from collections.abc import Sequence

import numpy as np

from kernels.arrays import Array


def global_norm(arrays: Sequence[Array]) -> float:
    """sqrt of the sum of all squares over a list of arrays, summed in float64 -> Python float."""
    scale = max((float(np.abs(a).max(initial=0)) for a in arrays), default=0.0)
    if 1e-140 < scale < 1e140 or scale == 0 or not math.isfinite(scale):
        scale = 1.0  # squares neither overflow nor vanish, or nothing helps
    return scale * math.sqrt(sum(float(np.square(a / scale, dtype=np.float64).sum()) for a in arrays))
