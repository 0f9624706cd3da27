"""Matrix products in all of NumPy's forms: vectors, matrices, and stacks of matrices that broadcast."""

from minigrad._tensor import record
from minigrad.ops.elementwise import _if_wanted, _operands, unbroadcast


def matmul(a, b):
    """a @ b. (..., M, K) @ (..., K, N) -> (..., M, N); a one-dimensional side is a row or a column."""
    a, b = _operands(a, b)
    return record(
        a.data @ b.data, (a, b), matmul_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, a), a_shape=a.shape, b_shape=b.shape,
    )  # fmt: skip


def matmul_backward(dout, a, b, a_shape, b_shape):
    # a vector takes part as a matrix of one row (a) or one column (b), which the result then lacks
    if len(a_shape) == 1:
        dout = dout[..., None, :] if len(b_shape) > 1 else dout[..., None]
        a = None if a is None else a[None, :]
    if len(b_shape) == 1:
        dout = dout[..., None]
        b = None if b is None else b[:, None]
    da = None if b is None else dout @ b.swapaxes(-1, -2)  # (..., M, K)
    db = None if a is None else a.swapaxes(-1, -2) @ dout  # (..., K, N)
    if da is not None:
        da = unbroadcast(da, (1, *a_shape) if len(a_shape) == 1 else a_shape).reshape(a_shape)
    if db is not None:
        db = unbroadcast(db, (*b_shape, 1) if len(b_shape) == 1 else b_shape).reshape(b_shape)
    return da, db
