"""The norm of a list of arrays in plain array code: the reference for the fast kernels."""

import math

import numpy as np


def global_norm(arrays):
    """sqrt of the sum of all squares over a list of arrays, summed in float64 -> Python float."""
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))
