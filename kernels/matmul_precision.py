"""The precision of float32 matrix products on the CPU: their operands are used as they are, or rounded to bfloat16.

The product of two bfloat16 numbers is exact in float32, and the sums are float32. All arrays stay float32.
"""

import numpy as np

from kernels.arrays import Array

dtype = "float32"  # or "bfloat16"


def select(name: str) -> None:
    """Round operands to `name` from now on: "bfloat16", or "float32" for no rounding."""
    global dtype
    dtype = name


def rounds(array_dtype: np.dtype) -> bool:
    """Whether operands of this dtype are rounded."""
    return dtype == "bfloat16" and array_dtype == np.float32


def rounded(x: Array) -> Array:
    """x as an operand: shape and dtype stay; rounded to the nearest bfloat16, ties to even, if x's dtype is rounded."""
    if not rounds(x.dtype):
        return x
    bits = x.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, nearest.view(np.float32))
