"""Unscaling of gradients and the search for infinities in plain array code: the reference for the fast kernels."""

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Array


def scale_and_check(arrays: Sequence[Array], scale: float) -> Array:
    """Multiply every array by scale, in place -> flag () uint8: 1 if all elements were finite before."""
    finite = [bool(np.isfinite(a).all()) for a in arrays]
    for a in arrays:
        a[...] = a.astype(np.promote_types(a.dtype, np.float32), copy=False) * float(scale)  # 16 bits may not hold it
    return np.asarray(all(finite), dtype=np.uint8, like=arrays[0])
