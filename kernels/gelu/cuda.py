"""GELU, exact and in GPT-2's tanh form: one pass over the elements."""

from kernels.arrays import Array
from kernels.cuda.launch import Kernel, blocks, contiguous, empty
from kernels.cuda.rows import check_shapes, vec

_forward = Kernel("gelu/gelu.cu", "gelu_forward")
_backward = Kernel("gelu/gelu.cu", "gelu_backward")
_THREADS = 256


def gelu_forward(x: Array, approximate: str) -> Array:
    """x of any shape; approximate "none" (erf) or "tanh" -> shaped like x."""
    out, grid = empty(x, x.shape), blocks(x.size, _THREADS * vec(x.dtype))
    _forward.launch(grid, _THREADS, out, contiguous(x), x.size, int(approximate == "tanh"), dtype=x.dtype)
    return out


def gelu_backward(dout: Array, x: Array, approximate: str, overwrite: bool = False) -> Array:
    """-> dx, shaped like x; written over x, a contiguous array, if `overwrite`."""
    check_shapes("gelu_backward", dout=(dout, x.shape))
    dx, grid, tanh_form = empty(x, x.shape), blocks(x.size, _THREADS * vec(x.dtype)), int(approximate == "tanh")
    _backward.launch(grid, _THREADS, dx, contiguous(dout), contiguous(x), x.size, tanh_form, dtype=x.dtype)
    if not overwrite:
        return dx
    x[...] = dx
    return x
