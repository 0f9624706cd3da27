"""Softmax and cross-entropy fused: a block of threads for each row; loss and divisor stay on the device.

The loss has the dtype of sums: float32 for 16-bit logits, whose own type would overflow at 65504.
"""

import numpy as np

from kernels.arrays import Array
from kernels.cuda.launch import STORAGE, Kernel, accum_dtype, blocks, contiguous, empty
from kernels.linear.cuda import as_matrix

_FILE = "softmax_cross_entropy/softmax_cross_entropy.cu"
_forward = Kernel(_FILE, "softmax_cross_entropy_forward")
_backward = Kernel(_FILE, "softmax_cross_entropy_backward")
_in_place = Kernel(_FILE, "softmax_cross_entropy_in_place")
_count = Kernel(_FILE, "count_targets")
_sum = Kernel(_FILE, "sum_losses")
_ONE_BLOCK = 1024  # threads of the kernels that one block runs


def softmax_cross_entropy_forward(
    logits: Array, targets: Array, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array]:
    """logits (..., V), targets (...), reduction "mean" | "sum" -> loss (), logsumexp (..., 2), divisor ()."""
    if logits.dtype.name not in STORAGE:
        raise TypeError(f"no kernels for logits of {logits.dtype}; there are {', '.join(STORAGE)}")
    rows, targets = as_matrix(logits), as_targets(targets)
    losses = empty(rows, targets.shape, np.float64)
    logsumexp = empty(rows, (*logits.shape[:-1], 2), accum_dtype(logits.dtype))
    V = rows.shape[1]
    _forward.launch(
        len(rows), _threads(V, rows.dtype), losses, logsumexp, rows, targets, ignore_index, V, dtype=rows.dtype
    )
    divisor = count_targets(targets, ignore_index, reduction, rows.dtype)
    return sum_losses(losses, divisor, rows.dtype), logsumexp, divisor


def softmax_cross_entropy_backward(
    dout: Array, logits: Array, targets: Array, logsumexp: Array, divisor: Array, ignore_index: int, overwrite: bool
) -> Array:
    """-> dlogits (..., V), written over `logits` if `overwrite`."""
    if overwrite and not logits.flags.c_contiguous:
        raise ValueError(f"logits {logits.shape} cannot be overwritten: they are not C-contiguous")
    rows, accum = as_matrix(logits), accum_dtype(logits.dtype)
    dlogits = rows if overwrite else empty(rows, rows.shape)
    V = rows.shape[1]
    _backward.launch(
        len(rows), _threads(V, rows.dtype), dlogits, dout.astype(accum, copy=False), rows, as_targets(targets),
        contiguous(logsumexp).astype(accum, copy=False), divisor.astype(np.int64, copy=False), ignore_index, V,
        dtype=rows.dtype,
    )  # fmt: skip
    return dlogits.reshape(logits.shape)


def softmax_cross_entropy_in_place(
    losses: Array, logits: Array, targets: Array, divisor: Array, ignore_index: int, grad_scale: float
) -> None:
    """Every row's loss into losses (N,) float64, and over logits (N, V) the gradient for an upstream `grad_scale`."""
    N, V = logits.shape
    _in_place.launch(
        N, _threads(V, logits.dtype), losses, logits, targets, divisor, ignore_index, grad_scale, V, dtype=logits.dtype
    )


def count_targets(targets: Array, ignore_index: int, reduction: str, dtype: np.dtype) -> Array:
    """-> divisor () int64: how many targets are not ignored, at least 1; 1 for "sum". dtype: of the logits."""
    divisor = empty(targets, (), np.int64)
    average = int(reduction == "mean")
    _count.launch(1, _ONE_BLOCK, divisor, targets, ignore_index, average, targets.size, dtype=dtype)
    return divisor


def sum_losses(losses: Array, divisor: Array, dtype: np.dtype) -> Array:
    """-> loss (): the sum of losses (N,) over divisor (). dtype: of the logits."""
    loss = empty(losses, (), accum_dtype(dtype))
    _sum.launch(1, _ONE_BLOCK, loss, losses, divisor, losses.size, dtype=dtype)
    return loss


def as_targets(targets: Array) -> Array:
    """targets (...) of integers -> (N,) int64."""
    return contiguous(targets).reshape(-1).astype(np.int64, copy=False)


def _threads(V: int, dtype: np.dtype) -> int:
    """Threads for a row, each of which moves 16 bytes at a time."""
    return 32 * min(16, max(1, blocks(V * dtype.itemsize, 32 * 16)))
