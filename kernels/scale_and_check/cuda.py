"""Gradients divided by the loss scale, and whether they were all finite, in one pass."""

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, blocks, empty

_scale = Kernel("scale_and_check/scale_and_check.cu", "scale_in_place")
_all_finite = Kernel("scale_and_check/scale_and_check.cu", "all_finite")
_THREADS, _VECS_PER_THREAD = 256, 4  # as in the source


def scale_and_check(arrays: Sequence[Array], scale: float) -> Array:
    """Multiply every array by scale, in place -> flag () uint8 on the device: 1 if all elements were finite before."""
    if not arrays:
        raise ValueError("scale_and_check needs at least one array")
    counts = [blocks(a.size, _THREADS * _VECS_PER_THREAD * (16 // a.dtype.itemsize)) for a in arrays]
    bad = empty(arrays[0], (sum(counts),), np.uint8)
    start = 0
    for a, count in zip(arrays, counts, strict=True):
        _scale.launch(count, _THREADS, bad[start : start + count], a, scale, a.size, dtype=a.dtype)
        start += count
    flag = empty(arrays[0], (), np.uint8)
    _all_finite.launch(1, 1024, flag, bad, bad.size, dtype=arrays[0].dtype)
    return flag
