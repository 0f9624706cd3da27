"""Likely causes of a wrong gradient, read from the pattern of its error.

A backward function is linear in the upstream gradient, so it has a matrix, the Jacobian. Backward with the gradient
of one output at a time gives its rows, and finite differences give the true ones. Common mistakes show in the
comparison: a row is missing, an entry is not 0 where it should be, everything is doubled.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from minigrad.argument_types import Shape
from minigrad.gradient_checking.misfit import broadcasts_to

Cause: TypeAlias = tuple[str, str]  # a short name and a sentence

WEAKEST = "right only for all-ones upstream"  # many other mistakes have this trait too, so it is named last


@dataclass(frozen=True)
class Evidence:
    """The gradient of one input, wrong and true. n coordinates are sampled; m is the number of output elements.

    shape, out_shapes   of the input and of all outputs; out_paths: what messages call the outputs
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

    shape: Shape
    out_shapes: list[Shape]
    out_paths: list[str]
    sample: np.ndarray
    gradient: np.ndarray
    analytic: np.ndarray
    numeric: np.ndarray
    wrong: np.ndarray
    jacobian: np.ndarray
    upstream: np.ndarray
    chosen: np.ndarray
    pull: Callable[[Iterable[np.ndarray]], np.ndarray]
    along: np.ndarray | None
    arrays: dict[str, np.ndarray]
    sizes: set[int]
    close: float

    def backward_matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """The Jacobian's rows for the chosen outputs, by backward and the true ones: two arrays (chosen, n)."""
        backward = self.pull(np.eye(1, self.upstream.size, k)[0] for k in self.chosen)
        return backward, self.jacobian[self.chosen]


def likely_cause(evidence: Evidence) -> tuple[str | None, str]:
    """(short name, sentence) of the likely cause; (None, sentence) where no pattern is recognised."""
    e = evidence
    if _small(e):
        return None, "the difference is small: a constant with few digits, or a part computed in lower precision"
    for pattern in (_empty, _proportional, _moved, _outputs, _ones, _matrix):
        found = pattern(e)
        if found:
            return found
    return None, "no pattern recognised; compare backward with its derivation term by term"


def _small(e: Evidence) -> bool:
    """Whether the error is so small that every pattern would fit, and no factor explains it."""
    error, size = np.abs(e.analytic - e.numeric).max(initial=0.0), np.abs(e.numeric).max(initial=0.0)
    if not size or not error <= 10.0 * e.close * size:
        return False
    factor = float(e.analytic @ e.numeric / (e.numeric @ e.numeric))
    return bool(np.abs(e.analytic - factor * e.numeric).max() > 0.1 * error)


def are_close(e: Evidence, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal, up to the precision of the evidence, relative to the largest number of b."""
    return bool(np.abs(a - b).max(initial=0.0) <= e.close * np.abs(b).max(initial=0.0))


def _absent(e: Evidence, matrix: np.ndarray) -> np.ndarray:
    """Which entries are 0."""
    return np.abs(matrix) <= e.close * np.abs(matrix).max(initial=0.0)


def _empty(e: Evidence) -> Cause | None:
    if not np.isfinite(e.analytic).all():
        return "not finite", "the backward function gives NaN or infinity where the function itself is finite"
    if not e.analytic.any():
        zeros = "no gradient", "the gradient is 0 everywhere: backward returns None or zeros for this input"
        return _ones(e) or zeros
    if not e.jacobian.any():
        return (
            "no dependence",
            "no output changes with this input: forward leaves it out, or rounds or compares it",
        )
    return None


def _proportional(e: Evidence) -> Cause | None:
    """One factor between the wrong gradient and the true one."""
    a, n = e.analytic[e.wrong], e.numeric[e.wrong]
    if not n.any() or not a.any():
        return None
    factor = float(a @ n / (n @ n))
    if not are_close(e, a, factor * n):
        return None
    some = not are_close(e, e.analytic, factor * e.numeric)  # others are right
    named = _named_factor(e, factor)
    if named and named[0] == "factor 2" and some and factor > 1:
        return "accumulated twice", "some coordinates are exactly doubled: their contribution is added twice"
    if named and (not some or named[0] == "sign"):
        return named
    if len(a) > 1 and abs(factor) > e.close:
        where = "some coordinates are" if some else "the gradient is"
        return "scale forgotten", f"{where} {factor:.6g} times the true one: a scale is missing, or is there twice"
    return None


def _named_factor(e: Evidence, factor: float) -> Cause | None:
    if abs(factor + 1.0) < e.close:
        return "sign", "the sign is reversed"
    if abs(factor - 2.0) < e.close * 2:
        return "factor 2", "the gradient is twice the true one: added twice, or a 2 too many"
    if abs(factor - 0.5) < e.close:
        return "factor 2", "the gradient is half the true one: a 2 is missing, as in d(x*x) = 2 x dx"
    for n in sorted(_terms(e)):
        for value, over, by in ((factor, "sum", "mean"), (1.0 / factor, "mean", "sum")):
            if abs(value - n) < e.close * n:
                what = f"as if a {over} over {n} stood for a {by}"
                return "factor N", f"the gradient is {factor:.6g} times the true one, {what}"
            k = round(value * n)  # a mean over the wrong number of terms
            if 0 < k < n and abs(value * n - k) < 0.1 * e.close:
                wrong, right = (n, k) if value == factor else (k, n)
                what = f"as if divided by {wrong} in place of {right}"
                return "factor N", f"the gradient is {factor:.6g} times the true one, {what}"
    return None


def _terms(e: Evidence) -> set[int]:
    """How many terms a sum may have: lengths of axes, if an output depends on several inputs, or the reverse."""
    present = ~_absent(e, e.jacobian)
    most = max(present.sum(axis=0).max(initial=0), present.sum(axis=1).max(initial=0))
    whole = e.sample.size == np.prod(e.shape)  # else a row holds a part of what an output depends on
    return {n for n in e.sizes if 2 < n <= most or (n > 2 and most > 1 and not whole)}


def _moved(e: Evidence) -> Cause | None:
    """The right numbers in the wrong places."""
    whole = e.gradient
    for axes in itertools.permutations(range(whole.ndim)):
        if axes != tuple(range(whole.ndim)) and whole.transpose(axes).shape == whole.shape and whole.ndim <= 4 \
                and are_close(e, whole.transpose(axes).reshape(-1)[e.sample], e.numeric):  # fmt: skip
            return "transposed", f"the gradient is right after transpose{axes}"
    if e.along is not None and are_close(e, e.analytic, e.along[e.sample]):
        return "transposed", "the backward function applies the operation's matrix itself; its transpose is wanted"
    if len(e.out_shapes) == 1 and len(e.out_shapes[0]) in (2, 3, 4):
        u = e.upstream.reshape(e.out_shapes[0])
        for axes in itertools.permutations(range(u.ndim)):
            if axes != tuple(range(u.ndim)) and u.transpose(axes).shape == u.shape \
                    and are_close(e, e.analytic, u.transpose(axes).reshape(-1) @ e.jacobian):  # fmt: skip
                return "transposed", f"the gradient belongs to an upstream gradient after transpose{axes}"
    for axis, by in itertools.product(range(whole.ndim), (1, -1)):
        n = whole.shape[axis]
        rolled = np.roll(whole, by, axis).reshape(-1)[e.sample]
        # what goes over the edge may be lost, or be kept there, instead of coming round
        edge = np.isin(np.unravel_index(e.sample, e.shape)[axis], (0, n - 1))
        right = edge | (np.abs(rolled - e.numeric) <= e.close * np.abs(e.numeric).max(initial=0.0))
        if n > 3 and e.wrong.sum() > max(1, 0.5 * e.wrong.size) and right.all() and e.numeric[~edge].any():
            return "shifted", f"the gradient is right when moved by {by} along axis {axis}: an index is off by one"
    whole_known = e.analytic.size == whole.size and e.wrong.sum() > 2
    if whole_known and are_close(e, np.sort(e.analytic), np.sort(e.numeric)):
        return "permuted", "the right numbers in the wrong places: elements are put back in another order"
    return None


def _outputs(e: Evidence) -> Cause | None:
    """One of several outputs left out, or two of them exchanged."""
    parts = _parts(e)
    for path, part in zip(e.out_paths, parts, strict=True):
        others = np.where(part, 0.0, e.upstream)
        if len(parts) > 1 and e.jacobian[part].any() and are_close(e, e.analytic, others @ e.jacobian):
            return "output ignored", f"the upstream gradient of fn's output{path} is ignored"
    for (i, one), (j, other) in itertools.combinations(enumerate(parts), 2):
        if e.out_shapes[i] == e.out_shapes[j]:
            exchanged = e.upstream.copy()
            exchanged[one], exchanged[other] = e.upstream[other], e.upstream[one]
            if are_close(e, e.analytic, exchanged @ e.jacobian):
                names = f"output{e.out_paths[i]} and output{e.out_paths[j]}"
                return "outputs swapped", f"the upstream gradients of fn's {names} are exchanged"
    return None


def _parts(e: Evidence) -> list[np.ndarray]:
    """For each output, which of the flat outputs belong to it."""
    number = np.repeat(np.arange(len(e.out_shapes)), [int(np.prod(shape)) for shape in e.out_shapes])
    return [number == i for i in range(len(e.out_shapes))]


def _ones(e: Evidence) -> Cause | None:
    """The gradient is right for an upstream gradient of ones, which hides mistakes: many sums become 0 or 1."""
    ones = np.ones_like(e.upstream)
    error = np.abs(e.pull([ones])[0] - e.jacobian.sum(axis=0)).max()
    if len(ones) > 1 and error <= e.close * np.abs(e.jacobian).max():
        return WEAKEST, "with a dout of all ones it is right: any other is used wrongly, or not at all"
    return None


def _matrix(e: Evidence) -> Cause | None:
    """The backward function's matrix against the true one, entry by entry."""
    backward, true = e.backward_matrix()
    size = np.abs(true).max(initial=0.0)
    if not np.isfinite(backward).all() or not size:
        return None
    if len(e.chosen) == len(e.upstream) and not are_close(e, e.upstream @ backward, e.analytic):
        return "not linear in dout", "the gradient is not in proportion to dout: a part of it does not depend on dout"
    same = np.abs(backward - true) <= e.close * size
    absent, silent = _absent(e, true), np.abs(backward) <= e.close * size
    return (
        _lost(e, same, absent, silent)
        or _doubled(e, backward, true, same, absent, size)
        or _symmetric(e, backward, true)
        or _centred(e, backward, true, size)
        or _extra(same, absent, silent)
        or _scaled(e, backward, true, absent, silent)
    )


def _lost(e: Evidence, same: np.ndarray, absent: np.ndarray, silent: np.ndarray) -> Cause | None:
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


def _doubled(
    e: Evidence, backward: np.ndarray, true: np.ndarray, same: np.ndarray, absent: np.ndarray, size: float
) -> Cause | None:
    double = ~absent & (np.abs(backward - 2.0 * true) <= e.close * size)
    if double.any() and (same | double).all() and not double.all():
        return "accumulated twice", "some contributions are added twice"
    negative = ~absent & (np.abs(backward + true) <= e.close * size)
    if negative.any() and (same | negative).all():
        return "sign", "the sign of some contributions is reversed"
    return None


def _symmetric(e: Evidence, backward: np.ndarray, true: np.ndarray) -> Cause | None:
    if backward.shape[0] == backward.shape[1] and are_close(e, backward, true.T) and not are_close(e, true, true.T):
        return "transposed", "the backward function's matrix is the transpose of the right one"
    return None


def _centred(e: Evidence, backward: np.ndarray, true: np.ndarray, size: float) -> Cause | None:
    """The gradient of a normalisation sums to 0 over its axis; a backward function without the mean's term does not.

    What lacks is that mean times a vector, the same one for every upstream gradient: a matrix of rank 1 for each line.
    """
    small = 10.0 * e.close * size
    for axis in range(len(e.shape)):
        lines = _lines(e, axis)
        sums = [np.abs(matrix @ lines).max(initial=0.0) for matrix in (true, backward)]
        if e.shape[axis] > 2 and sums[0] <= small < sums[1] and all(
            np.linalg.svd((backward - true)[:, line > 0.0], compute_uv=False)[1:].max(initial=0.0) <= small
            for line in lines.T
        ):  # fmt: skip
            return "mean not subtracted", f"the true gradient sums to 0 over axis {axis}; this one, lacking a mean, not"
    return None


def _lines(e: Evidence, axis: int) -> np.ndarray:
    """(n, lines): which sampled coordinates make up each line along an axis; only lines that were sampled whole."""
    at = np.unravel_index(e.sample, e.shape)
    line = np.ravel_multi_index([0 * i if k == axis else i for k, i in enumerate(at)], e.shape)
    numbers, counts = np.unique(line, return_counts=True)
    return (line[:, None] == numbers[counts == e.shape[axis]]).astype(np.float64)


def _extra(same: np.ndarray, absent: np.ndarray, silent: np.ndarray) -> Cause | None:
    """Entries that should be 0, all others being right or, under another mask, 0."""
    if not (absent & ~silent).any():
        return None
    if (absent | silent).all():
        return "mask inverted", "gradient flows exactly where the output does not depend on the input, and nowhere else"
    if (same | absent | silent).all():
        return "mask forgotten", "gradient flows where the output does not depend on the input: no mask, or another one"
    return None


def _scaled(
    e: Evidence, backward: np.ndarray, true: np.ndarray, absent: np.ndarray, silent: np.ndarray
) -> Cause | None:
    """The ratio of the two is one of the arrays, the reciprocal of one, or the ratio of two."""
    if (absent != silent).any():
        return None
    with np.errstate(all="ignore"):
        ratio = np.where(absent, np.nan, true / backward)  # (chosen, n)
    factors = list(_factors(e))

    def fits(candidate: np.ndarray) -> bool:
        with np.errstate(all="ignore"):  # an array of zeros is no factor
            off = np.abs(ratio - candidate) / np.maximum(np.abs(candidate), 1e-300)
        return not np.isnan(off).all() and bool(np.nanmax(off) <= 10.0 * e.close)

    with np.errstate(all="ignore"):
        for name, values in factors:
            for text, candidate in ((name, values), (f"1 / {name}", 1.0 / values)):
                if fits(candidate):
                    return "scale forgotten", f"the true gradient is this one times {text}: that factor is forgotten"
        for (name, values), (other, instead) in itertools.permutations(factors[:8], 2):
            if name != other and fits(values / instead):
                return "wrong operand", f"the gradient is right with {name} in the place of {other}"
    return None


def _factors(e: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, as they are broadcast to the rows or the columns of a matrix (chosen, n)."""
    for name, array in e.arrays.items():
        if broadcasts_to(array.shape, e.shape):
            yield name, np.broadcast_to(array, e.shape).reshape(-1)[e.sample][None, :]
        if len(e.out_shapes) == 1 and broadcasts_to(array.shape, e.out_shapes[0]):
            yield name, np.broadcast_to(array, e.out_shapes[0]).reshape(-1)[e.chosen][:, None]
