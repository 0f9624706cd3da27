"""Likely causes of a wrong gradient, read from the pattern of its error.

A backward function is linear in the upstream gradient, so it has a matrix, the Jacobian. Backward with the gradient
of one output at a time gives its rows, and finite differences give the true ones. Common mistakes show in the
comparison: a row is missing, an entry is not 0 where it should be, everything is doubled.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minigrad.gradient_checking.misfit import broadcasts_to

WEAKEST = "right only for all-ones upstream"  # many other mistakes have this trait too, so it is named last


@dataclass(frozen=True)
class Evidence:
    """The gradient of one input, wrong and true. n coordinates are sampled; m is the number of output elements.

    shape, out_shapes   of the input and of all outputs
    sample              (n,) flat indices of the sampled coordinates
    gradient            by backward, whole; `analytic` (n,) is its part at the sample, `numeric` (n,) the true one
    wrong               (n,) bool
    jacobian            (m, n) true change of every output with every sampled coordinate
    upstream            (m,) the upstream gradient used
    chosen              indices of the outputs whose rows `backward_matrix` computes
    pull                flat upstream gradients -> the gradient by backward at the sample, a row each
    along               (m,) change of the outputs along `upstream`, if the one output has the input's shape; or None
    arrays              {name: array} that may be a forgotten factor: the float inputs and the first output
    sizes               lengths of the axes that a sum or mean may run over
    close               the relative difference below which two numbers count as equal
    """

    shape: tuple
    out_shapes: list
    sample: np.ndarray
    gradient: np.ndarray
    analytic: np.ndarray
    numeric: np.ndarray
    wrong: np.ndarray
    jacobian: np.ndarray
    upstream: np.ndarray
    chosen: np.ndarray
    pull: Callable
    along: np.ndarray | None
    arrays: dict
    sizes: set
    close: float

    def backward_matrix(self):
        """The Jacobian's rows for the chosen outputs, by backward and the true ones: two arrays (chosen, n)."""
        backward = self.pull(np.eye(1, self.upstream.size, k)[0] for k in self.chosen)
        return backward, self.jacobian[self.chosen]


def likely_cause(evidence):
    """(short name, sentence) of the likely cause; (None, sentence) where no pattern is recognised."""
    for pattern in (_empty, _proportional, _moved, _ones, _matrix):
        found = pattern(evidence)
        if found:
            return found
    return None, "no pattern recognised; compare backward with its derivation term by term"


def _close(e, a, b):
    return bool(np.abs(a - b).max(initial=0.0) <= e.close * np.abs(b).max(initial=0.0))


def _empty(e):
    if not np.isfinite(e.analytic).all():
        return "not finite", "the backward function gives NaN or infinity where the function itself is finite"
    if not e.analytic.any():
        zeros = "no gradient", "the gradient is 0 everywhere: backward returns None or zeros for this input"
        return _ones(e) or zeros
    return None


def _proportional(e):
    """One factor between the wrong gradient and the true one."""
    a, n = e.analytic[e.wrong], e.numeric[e.wrong]
    if not n.any() or not a.any():
        return None
    factor = float(a @ n / (n @ n))
    if not _close(e, a, factor * n):
        return None
    some = not _close(e, e.analytic, factor * e.numeric)  # others are right
    named = _named_factor(factor, e.sizes, e.close)
    if named and named[0] == "factor 2" and some and factor > 1:
        return "accumulated twice", "some coordinates are exactly doubled: their contribution is added twice"
    if named and (not some or named[0] == "sign"):
        return named
    if len(a) > 1 and abs(factor) > e.close:
        where = "some coordinates are" if some else "the gradient is"
        return "scale forgotten", f"{where} {factor:.6g} times the true one: a scale is missing, or is there twice"
    return None


def _named_factor(factor, sizes, close):
    if abs(factor + 1.0) < close:
        return "sign", "the sign is reversed"
    if abs(factor - 2.0) < close * 2:
        return "factor 2", "the gradient is twice the true one: added twice, or a 2 too many"
    if abs(factor - 0.5) < close:
        return "factor 2", "the gradient is half the true one: a 2 is missing, as in d(x*x) = 2 x dx"
    for value in factor, 1.0 / factor:
        for n in sorted(sizes - {1, 2}):
            # n itself, or a count of at most n over n: a mean over the wrong number of terms
            if abs(value - n) < close * n or (value < 1.0 and abs(value * n - round(value * n)) < 0.1 * close):
                return "factor N", f"the gradient is {factor:.6g} times the true one, and an axis has {n}: sum or mean?"
    return None


def _moved(e):
    """The right numbers in the wrong places."""
    whole = e.gradient
    for axes in itertools.permutations(range(whole.ndim)):
        if axes != tuple(range(whole.ndim)) and whole.transpose(axes).shape == whole.shape and whole.ndim <= 4 \
                and _close(e, whole.transpose(axes).reshape(-1)[e.sample], e.numeric):  # fmt: skip
            return "transposed", f"the gradient is right after transpose{axes}"
    if e.along is not None and _close(e, e.analytic, e.along[e.sample]):
        return "transposed", "the backward function applies the operation's matrix itself; its transpose is wanted"
    if len(e.out_shapes) == 1 and len(e.out_shapes[0]) in (2, 3, 4):
        u = e.upstream.reshape(e.out_shapes[0])
        for axes in itertools.permutations(range(u.ndim)):
            if axes != tuple(range(u.ndim)) and u.transpose(axes).shape == u.shape \
                    and _close(e, e.analytic, u.transpose(axes).reshape(-1) @ e.jacobian):  # fmt: skip
                return "transposed", f"the gradient belongs to an upstream gradient after transpose{axes}"
    for axis, by in itertools.product(range(whole.ndim), (1, -1)):
        rolled = np.roll(whole, by, axis)
        right = np.abs(rolled.reshape(-1)[e.sample] - e.numeric) <= e.close * np.abs(e.numeric).max(initial=0.0)
        # the entry that goes over the edge may be lost instead of coming round
        n = whole.shape[axis]
        if n > 2 and e.wrong.sum() > 1 and right.mean() >= (n - 1.0) / n - 1e-9:
            return "shifted", f"the gradient is right when moved by {by} along axis {axis}: an index is off by one"
    whole_known = e.analytic.size == whole.size and e.wrong.sum() > 2
    if whole_known and _close(e, np.sort(e.analytic), np.sort(e.numeric)):
        return "permuted", "the right numbers in the wrong places: elements are put back in another order"
    return None


def _ones(e):
    """The gradient is right for an upstream gradient of ones, which hides mistakes: many sums become 0 or 1."""
    ones = np.ones_like(e.upstream)
    error = np.abs(e.pull([ones])[0] - e.jacobian.sum(axis=0)).max()
    if len(ones) > 1 and error <= e.close * np.abs(e.jacobian).max():
        return WEAKEST, "with a dout of all ones it is right: dout is used wrongly, or not"
    return None


def _matrix(e):
    """The backward function's matrix against the true one, entry by entry."""
    backward, true = e.backward_matrix()
    size = np.abs(true).max(initial=0.0)
    if not np.isfinite(backward).all() or not size:
        return None
    if len(e.chosen) == len(e.upstream) and not _close(e, e.upstream @ backward, e.analytic):
        return "not linear in dout", "the gradient is not in proportion to dout: a part of it does not depend on dout"
    same = np.abs(backward - true) <= e.close * size
    absent, silent = np.abs(true) <= e.close * size, np.abs(backward) <= e.close * size
    return (
        _lost(e, backward, same, absent, silent)
        or _doubled(e, backward, true, same, absent, size)
        or _symmetric(e, backward, true)
        or _centred(e, backward, true, size)
        or _extra(absent, silent)
        or _scaled(e, backward, true, absent, silent)
    )


def _lost(e, backward, same, absent, silent):
    lost = ~absent & silent
    if not lost.any() or not (same | lost).all():
        return None
    kept_some = (~absent & ~silent).any(axis=0)
    contributions = (~absent).sum(axis=0)
    if not kept_some[lost.any(axis=0)].any():
        return "lost", "some coordinates receive nothing, all others the right gradient: an index or mask is off"
    broadcast = [shape for shape in e.out_shapes if shape != e.shape and broadcasts_to(e.shape, shape)]
    if broadcast and (contributions == contributions[0]).all() and lost.any(axis=0).all():
        return "missing broadcast sum", f"of the outputs that share this input {e.shape} only some count: sum over all"
    return "overwritten", "of several contributions to one coordinate only some survive: `=` where `+=` was meant"


def _doubled(e, backward, true, same, absent, size):
    double = ~absent & (np.abs(backward - 2.0 * true) <= e.close * size)
    if double.any() and (same | double).all() and not double.all():
        return "accumulated twice", "some contributions are added twice"
    negative = ~absent & (np.abs(backward + true) <= e.close * size)
    if negative.any() and (same | negative).all():
        return "sign", "the sign of some contributions is reversed"
    return None


def _symmetric(e, backward, true):
    if backward.shape[0] == backward.shape[1] and _close(e, backward, true.T) and not _close(e, true, true.T):
        return "transposed", "the backward function's matrix is the transpose of the right one"
    return None


def _centred(e, backward, true, size):
    """The gradient of a normalisation sums to 0 over its axis; a backward function without the mean's term does not."""
    small = 10.0 * e.close * size
    for axis in range(len(e.shape)):
        lines = _lines(e, axis)
        sums = [np.abs(matrix @ lines).max(initial=0.0) for matrix in (true, backward)]
        if e.shape[axis] > 2 and sums[0] <= small < sums[1]:
            return "mean not subtracted", f"the true gradient sums to 0 over axis {axis}; this one, lacking a mean, not"
    return None


def _lines(e, axis):
    """(n, lines): which sampled coordinates make up each line along an axis; only lines that were sampled whole."""
    at = np.unravel_index(e.sample, e.shape)
    line = np.ravel_multi_index([0 * i if k == axis else i for k, i in enumerate(at)], e.shape)
    numbers, counts = np.unique(line, return_counts=True)
    return (line[:, None] == numbers[counts == e.shape[axis]]).astype(np.float64)


def _extra(absent, silent):
    if not (absent & ~silent).any():
        return None
    if (absent | silent).all():
        return "mask inverted", "gradient flows exactly where the output does not depend on the input, and nowhere else"
    return "mask forgotten", "gradient flows where the output does not depend on the input: no mask, or another one"


def _scaled(e, backward, true, absent, silent):
    """The ratio of the two is one of the input arrays (or the reciprocal of one)."""
    if (absent != silent).any():
        return None
    with np.errstate(all="ignore"):
        ratio = np.where(absent, np.nan, true / backward)  # (chosen, n)
    for name, array in e.arrays.items():
        for shape, at in ((e.shape, e.sample), (e.out_shapes[0] if len(e.out_shapes) == 1 else None, e.chosen)):
            if shape is None or not broadcasts_to(array.shape, shape):
                continue
            values = np.broadcast_to(array, shape).reshape(-1)[at]
            values = values[None, :] if at is e.sample else values[:, None]
            with np.errstate(all="ignore"):  # an array of zeros is no factor
                candidates = ((values, name), (1.0 / values, f"1 / {name}"))
                off = [np.abs(ratio - c) / np.maximum(np.abs(c), 1e-300) for c, _ in candidates]
            for (_, text), distance in zip(candidates, off, strict=True):
                if not np.isnan(distance).all() and np.nanmax(distance) <= 10.0 * e.close:
                    return "scale forgotten", f"the true gradient is this one times {text}: that factor is forgotten"
    return None
