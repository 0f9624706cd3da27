"""Sums of squares of very large and of very small numbers."""

import numpy as np

from kernels.cpu.compile import jit


@jit
def in_range(squares, itemsize):
    """Whether a sum of squares has neither overflowed nor lost digits to subnormal numbers; False for a NaN.

    itemsize: of the numbers, in bytes.
    """
    return (1e-290 if itemsize == 8 else 1e-30) < squares < np.inf


@jit
def largest_magnitude(x):
    """The largest magnitude of a flat array, float64, to divide by; 1 where that is 0 or not finite."""
    largest = 0.0
    for i in range(x.size):
        largest = max(largest, abs(np.float64(x[i])))
    return largest if 0.0 < largest < np.inf else 1.0
