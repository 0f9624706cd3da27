"""Unscaling of gradients and the search for infinities in plain array code: the reference for the fast kernels."""

import numpy as np


def scale_and_check(arrays, scale):
    """Multiply every array by scale, in place -> flag () uint8: 1 if all elements were finite before."""
    finite = [bool(np.isfinite(a).all()) for a in arrays]
    for a in arrays:
        a[...] = a.astype(np.promote_types(a.dtype, np.float32), copy=False) * float(scale)  # 16 bits may not hold it
    return np.asarray(all(finite), dtype=np.uint8, like=arrays[0])
