"""The norm of all gradients together, summed in float64 over chunks fixed by each array's size."""

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, blocks, contiguous, empty

_norms = Kernel("global_norm/global_norm.cu", "norms_of_blocks")
_join = Kernel("global_norm/global_norm.cu", "norm_of_norms")
_BLOCK_ELEMENTS = 16384  # as in the source


def global_norm(arrays: Sequence[Array]) -> Array | float:
    """sqrt of the sum of all squares over a list of arrays -> () float64 on their device; the host does not wait."""
    if not arrays:
        return 0.0  # and no device to put it on
    counts = [blocks(a.size, _BLOCK_ELEMENTS) for a in arrays]
    partial = empty(arrays[0], (sum(counts),), np.float64)
    start = 0
    for a, count in zip(arrays, counts, strict=True):
        _norms.launch(count, 256, partial[start : start + count], contiguous(a), a.size, dtype=a.dtype)
        start += count
    norm = empty(arrays[0], (), np.float64)
    _join.launch(1, 1024, norm, partial, partial.size, dtype=arrays[0].dtype)
    return norm
