"""Matrix products in all of NumPy's forms: vectors, matrices, and stacks of matrices that broadcast; and einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.arrays import accurate_sum, as_array
from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Shape, TensorLike
from minigrad.ops.elementwise import _if_wanted, _operands, mul, promoted, unbroadcast
from minigrad.ops.shape import reshape, swapaxes


def matmul(input: TensorLike, other: TensorLike) -> Tensor:
    """input @ other. (..., M, K) @ (..., K, N) -> (..., M, N); a one-dimensional side is a row or a column."""
    a, b = _operands(input, other)
    try:
        out = a.data @ b.data
    except ValueError:
        _check_fit("matmul", a.shape, b.shape)
        raise
    return record(
        out, (a, b), matmul_backward,
        a=_if_wanted(a.data, b), b=_if_wanted(b.data, a), a_shape=a.shape, b_shape=b.shape,
    )  # fmt: skip


def matmul_backward(
    dout: Array, a: Array | None, b: Array | None, a_shape: Shape, b_shape: Shape
) -> tuple[Array | None, Array | None]:
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


def _check_fit(name: str, a: Shape, b: Shape) -> None:
    """ValueError, in one line, unless matrices or vectors of these shapes can be multiplied."""
    if not a or not b:
        raise ValueError(f"{name}: {a} and {b}: a number has no rows or columns; say x * y")
    if a[-1] != b[-2:][0]:
        axis = "first" if len(b) < 3 else "last but one"
        raise ValueError(
            f"{name}: {a} and {b} do not fit; the last axis of the first, {a[-1]}, must be as long as "
            f"the {axis} axis of the second, {b[-2:][0]}"
        )
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(f"{name}: {a} and {b} do not fit; their leading axes must broadcast") from None


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by Einstein's convention, as numpy.einsum: einsum("bij,bjk->bik", a, b), "..." included.

    Operands may be one list. Axes of length 1 broadcast. Raises ValueError if the equation does not fit them.
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or not operands:
        raise TypeError('einsum takes an equation and its operands, as in einsum("ij,jk->ik", a, b)')
    tensors = promoted(*operands)
    subscripts, out_labels = _spelled_out(equation, [t.ndim for t in tensors])
    arrays = tuple(t.data for t in tensors)
    try:
        out = _contract(subscripts, arrays, out_labels)
    except ValueError:
        _check_sizes(equation, subscripts, [t.shape for t in tensors])
        raise
    return record(out, tensors, einsum_backward, arrays=arrays, subscripts=subscripts, out_labels=out_labels)


def einsum_backward(
    dout: Array, arrays: tuple[Array, ...], subscripts: list[str], out_labels: str
) -> tuple[Array, ...]:
    # exchange the output with one operand: a sum of products again
    return tuple(_operand_gradient(dout, arrays, subscripts, out_labels, i) for i in range(len(arrays)))


def _operand_gradient(dout: Array, arrays: tuple[Array, ...], subscripts: list[str], out_labels: str, i: int) -> Array:
    x, labels = arrays[i], "".join(dict.fromkeys(subscripts[i]))  # of "ii" the diagonal alone gets a gradient
    inputs = [out_labels, *subscripts[:i], *subscripts[i + 1 :]]
    met = "".join(label for label in labels if any(label in one for one in inputs))
    grad = _contract(inputs, (dout, *arrays[:i], *arrays[i + 1 :]), met)
    # an axis that only this operand has was summed: every element along it gets the same gradient
    grad = grad[tuple(slice(None) if label in met else None for label in labels)]
    sizes = [x.shape[subscripts[i].index(label)] for label in labels]
    met_sizes = tuple(1 if m == 1 else n for m, n in zip(sizes, grad.shape, strict=True))
    grad = np.broadcast_to(unbroadcast(grad, met_sizes), sizes)
    if len(labels) == x.ndim:
        return grad
    dx = np.zeros_like(x)
    places = dict(zip(labels, np.indices(sizes, sparse=True), strict=True))
    dx[tuple(np.asarray(places[label], like=x) for label in subscripts[i])] = grad
    return dx


def _contract(subscripts: Sequence[str], arrays: Sequence[Array], out_labels: str) -> Array:
    """einsum of arrays; axes that one array alone has are summed first, accurately."""
    inputs, summed = list(subscripts), list(arrays)
    for i, labels in enumerate(inputs):
        others = "".join([*inputs[:i], *inputs[i + 1 :], out_labels])
        alone = [k for k, label in enumerate(labels) if label not in others and labels.count(label) == 1]
        if alone:
            x = summed[i] if summed[i].dtype.kind == "f" else summed[i].astype(np.int64)  # as in `sum`
            summed[i] = accurate_sum(x, tuple(alone))
            inputs[i] = "".join(label for k, label in enumerate(labels) if k not in alone)
    return as_array(np.einsum(f"{','.join(inputs)}->{out_labels}", *summed, optimize=len(summed) > 1))


def _check_sizes(equation: str, subscripts: Sequence[str], shapes: Sequence[Shape]) -> None:
    """ValueError for a label that stands for axes of two lengths, neither of which is 1."""
    seen: dict[str, tuple[int, Shape]] = {}
    for labels, shape in zip(subscripts, shapes, strict=True):
        for label, n in zip(labels, shape, strict=True):
            known, where = seen.get(label, (1, shape))
            if n != known and 1 not in (n, known):
                name = repr(label) if label in equation else "an axis of '...'"
                raise ValueError(f"einsum: in {equation!r} {name} is {known} in {where}, but {n} in {shape}")
            if known == 1:
                seen[label] = n, shape


def _spelled_out(equation: str, ndims: list[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the output: "..." as letters of its own, the output as it is if not given."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise ValueError(f"einsum: {equation!r} has {len(inputs)} operands, {len(ndims)} were given")
    free = [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    hidden = [
        ndim - len(labels) + 3 for labels, ndim in zip(inputs, ndims, strict=True) if "..." in labels
    ]  # axes of each "..."
    letters = "".join(free[: max(hidden, default=0)])

    def spelled(labels: str, n: int) -> str:
        return labels.replace("...", letters[len(letters) - n :], 1)

    for labels, ndim in zip(inputs, ndims, strict=True):
        named = labels.replace("...", "", 1)
        if not (named == "" or (named.isalpha() and named.isascii())):
            raise ValueError(f"einsum: {labels!r} in {equation!r}; expected letters and at most one '...'")
        if len(named) > ndim or (len(named) < ndim and "..." not in labels):
            raise ValueError(f"einsum: {labels!r} in {equation!r} has {len(named)} labels for {ndim} axes")
    subscripts = [spelled(labels, ndim - len(labels) + 3) for labels, ndim in zip(inputs, ndims, strict=True)]
    if not arrow:
        named = left.replace(",", "").replace("...", "")
        right = "..." * bool(hidden) + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    out_labels = spelled(right, len(letters))
    known = set("".join(subscripts))
    if len(set(out_labels)) != len(out_labels) or not known.issuperset(out_labels):
        raise ValueError(f"einsum: the output {right!r} of {equation!r} must have labels of its operands, each once")
    return subscripts, out_labels


def dot(input: TensorLike, tensor: TensorLike) -> Tensor:
    """Of vectors the sum of products; else numpy.dot: a number scales, a matrix `tensor` is multiplied as by matmul."""
    a, b = _operands(input, tensor)
    if a.ndim == 0 or b.ndim == 0:
        return mul(a, b)
    if b.ndim > 2:
        raise ValueError(f"dot: the second tensor has {b.ndim} axes, expected at most 2; say matmul or einsum")
    _check_fit("dot", a.shape, b.shape)
    return matmul(a, b)


def vdot(input: TensorLike, other: TensorLike) -> Tensor:
    """The sum of the products of all elements."""
    a, b = reshape(input, -1), reshape(other, -1)
    _check_fit("vdot", a.shape, b.shape)
    return matmul(a, b)


def inner(input: TensorLike, other: TensorLike) -> Tensor:
    """The sums of products along the last axes of both; a number scales."""
    a, b = _operands(input, other)
    if a.ndim == 0 or b.ndim == 0:
        return mul(a, b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"inner: {a.shape} and {b.shape} do not fit; their last axes must be equally long")
    if b.ndim == 1 or (a.ndim == 1 and b.ndim == 2):
        return matmul(a, b) if b.ndim == 1 else matmul(b, a)
    rows = matmul(reshape(a, (-1, a.shape[-1])), swapaxes(reshape(b, (-1, b.shape[-1])), 0, 1))
    return reshape(rows, (*a.shape[:-1], *b.shape[:-1]))


def outer(input: TensorLike, vec2: TensorLike) -> Tensor:
    """The products of every element of input with every one of vec2, (M,) and (N,) -> (M, N)."""
    return mul(reshape(input, (-1, 1)), reshape(vec2, -1))


def _checked(name: str, input: TensorLike, other: TensorLike, *ndims: int) -> Tensor:
    a, b = as_tensor(input), as_tensor(other)
    if (a.ndim, b.ndim) != ndims:
        raise ValueError(f"{name} takes tensors of {ndims[0]} and {ndims[1]} axes, not {a.shape} and {b.shape}")
    _check_fit(name, a.shape, b.shape)
    return matmul(a, b)


def mm(input: TensorLike, mat2: TensorLike) -> Tensor:
    """The product of two matrices, (M, K) and (K, N)."""
    return _checked("mm", input, mat2, 2, 2)


def bmm(input: TensorLike, mat2: TensorLike) -> Tensor:
    """The products of two stacks of matrices of equal length, (B, M, K) and (B, K, N)."""
    a, b = as_tensor(input), as_tensor(mat2)
    if a.ndim == b.ndim == 3 and len(a) != len(b):
        raise ValueError(f"bmm: stacks of {a.shape} and {b.shape}, expected equal lengths")
    return _checked("bmm", a, b, 3, 3)


def mv(input: TensorLike, vec: TensorLike) -> Tensor:
    """The product of a matrix and a vector, (M, K) and (K,)."""
    return _checked("mv", input, vec, 2, 1)
