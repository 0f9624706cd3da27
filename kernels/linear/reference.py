"""Linear layer in plain array code: the reference for the fast kernels."""

import numpy as np

from kernels.arrays import Array, accurate_sum
from kernels.matmul_precision import rounded


def linear_forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """out = x @ weight.T + bias. x (..., K), weight (C, K), bias (C,) or None -> (..., C)."""
    rows = x.reshape(-1, x.shape[-1])  # one large product instead of one per batch row
    out = rounded(rows) @ rounded(weight).T
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(
    dout: Array, x: Array | None, weight: Array | None, bias: Array | None, into: Array | None = None
) -> tuple[Array | None, Array | None, Array | None]:
    """-> dx (..., K), dweight (C, K), dbias (C,). None for x, weight or bias: the gradient that needs it is None.

    dx needs `weight`, dweight needs `x`, dbias is formed if `bias` is not None. dweight is written into the array
    `into` where it is given.
    """
    rows = dout.reshape(-1, dout.shape[-1])  # (N, C)
    left = rounded(rows)
    dx = None if weight is None else (left @ rounded(weight)).reshape(*dout.shape[:-1], weight.shape[1])
    dweight = None if x is None else np.matmul(left.T, rounded(x).reshape(-1, x.shape[-1]), out=into)
    dbias = None if bias is None else accurate_sum(rows, 0)
    return dx, dweight, dbias
