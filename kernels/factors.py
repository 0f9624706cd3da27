"""What the factors of float32 matrix products are rounded to, on the CPU: "float32", which is nothing, or "bfloat16".

The product of two bfloat16 numbers is exact in float32, in which the sums are formed; all arrays stay float32.
"""

import numpy as np

dtype = "float32"


def use(name):
    """Round to `name`, "float32" or "bfloat16", from now on."""
    global dtype
    dtype = name


def rounds(array_dtype):
    """Whether that is done to arrays of this dtype."""
    return dtype == "bfloat16" and array_dtype == np.float32


def rounded(x):
    """x as it takes part in a product: the same shape and dtype; rounded to the nearest, ties to even."""
    if x is None or not rounds(x.dtype):
        return x
    bits = x.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, nearest.view(np.float32))
