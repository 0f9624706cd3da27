"""What tests, gates and benchmarks need to know of softmax_cross_entropy: see `kernels.spec`."""

from collections.abc import Callable

import numpy as np

from kernels.arrays import Array
from kernels.spec import (
    FEW,
    IGNORE,
    SUMS,
    Bug,
    Gradient,
    Kernel,
    MachineCode,
    Sizes,
    Source,
    accum,
    and_then,
    normal,
    normals,
)


def _forward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """logits (N, V), targets (N,), the target to ignore, reduction."""
    return normal(rng, dtype, s.N, s.V), rng.integers(0, s.V, s.N), IGNORE, "mean"


def _backward(s: Sizes, rng: np.random.Generator, dtype: np.dtype) -> tuple:
    """dout (), logits (N, V), targets (N,), logsumexp (N, 2), divisor (), the target to ignore, overwrite."""
    logits, targets, ignore_index, _ = _forward(s, rng, dtype)
    highest, expected = logits.max(axis=-1).astype(np.float64), np.log(s.V) + 0.5  # of normal logits
    logsumexp = np.stack([highest, expected - highest], axis=-1).astype(accum(dtype))
    return np.asarray(0.7, accum(dtype)), logits, targets, logsumexp, np.asarray(s.N), ignore_index, False


KERNELS = (
    Kernel("softmax_cross_entropy_forward", _forward, (2.5e-7, 1.2e-15)),
    Kernel("softmax_cross_entropy_backward", _backward, (2.5e-7, 6e-16)),
)
GRADIENTS = (
    Gradient("softmax_cross_entropy", "ignored", and_then(normals((5, 7)), [1, -100, 6, -100, 0])),
    Gradient("softmax_cross_entropy", "sum", and_then(normals((5, 7)), [1, 3, 6, 2, 0]), {"reduction": "sum"}),
)
SOURCES = {
    "softmax_cross_entropy.cu": Source(
        kernels={
            "softmax_cross_entropy_forward": SUMS,
            "softmax_cross_entropy_in_place": MachineCode(
                local_outside_loops=True, why="the two parts of logsumexp are read at once and kept aside"
            ),
            "count_targets": FEW,
            "sum_losses": FEW,
        }
    )
}


def _all_rows_counted(right: Callable, logits: Array, targets: Array, ignore_index: int, reduction: str) -> tuple:
    loss, logsumexp, divisor = right(logits, targets, ignore_index, reduction)
    if reduction == "sum":
        return loss, logsumexp, divisor
    return (loss * float(divisor) / targets.size).astype(loss.dtype), logsumexp, np.asarray(targets.size)


BUGS = (
    Bug("ignored rows counted in the loss", "cpu", "softmax_cross_entropy_forward", _all_rows_counted,
        "softmax_cross_entropy"),
    Bug("twice the gradient", "cpu", "softmax_cross_entropy_backward", lambda right, *a: 2.0 * right(*a),
        "softmax_cross_entropy", "factor 2"),
)  # fmt: skip
