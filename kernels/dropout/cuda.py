"""Dropout whose mask is a function of (seed, step, stream, index): computed in registers, never stored."""

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, blocks, contiguous, empty
from kernels.cuda.rows import vec
from kernels.philox import derive_key, keep_threshold

_dropout = Kernel("dropout/dropout.cu", "dropout")
_THREADS = 256


def dropout_forward(x: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """x times a mask: 0 with probability p, else 1 / (1 - p). Any shape -> the same."""
    threshold, (k0, k1) = keep_threshold(p), derive_key(seed, step, stream)
    out, grid = empty(x, x.shape), blocks(x.size, _THREADS * max(vec(x.dtype), 4))
    _dropout.launch(grid, _THREADS, out, contiguous(x), x.size, threshold, 1.0 / (1.0 - p), k0, k1, dtype=x.dtype)
    return out


def dropout_backward(dout: Array, p: float, seed: int, step: int, stream: int) -> Array:
    """-> dx. Dropout is linear: its backward function is dropout with the same mask."""
    return dropout_forward(dout, p, seed, step, stream)
