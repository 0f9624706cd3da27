"""Dropout in plain array code: the reference for the fast kernels."""

import numpy as np

from kernels.arrays import Array
from kernels.philox import keep_threshold, random_bits


def dropout_forward(x: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """x times a mask: 0 with probability p, else 1 / (1 - p). Element i uses random word i. Any shape.

    So a dropped element that is infinite or NaN gives NaN, as in PyTorch.
    """
    words = random_bits(x.size, seed, step, stream).reshape(x.shape)
    kept = np.asarray(words < keep_threshold(p), like=x)
    return x * np.where(kept, x.dtype.type(1.0 / (1.0 - float(p))), x.dtype.type(0))


def dropout_backward(dout: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """-> dx. The mask is drawn again from the same counters, so none is kept. Dropout is linear in x."""
    return dropout_forward(dout, p, seed, step, stream)
