"""Large numbers in float32: values and gradients are as close to float64's as PyTorch's float32 is, within twice.

Logits and scores around 100 or with a common offset of 1e4, rows with a mean of 1e4: there float32 loses digits, and a
formula that is right for ordinary numbers may lose them all.
"""

import contextlib
from typing import NamedTuple

import numpy as np
import pytest

import kernels
import minigrad as mg
from kernels.arrays import on_host
from minigrad import functional as F
from minigrad import runtime

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
    from torch.nn import functional as TF
    from torch.nn.attention import SDPBackend, sdpa_kernel
pytestmark = pytest.mark.pytorch

SETS = pytest.mark.parametrize("backend", ["reference", "fast", pytest.param("cuda-sim", marks=[pytest.mark.compiler])])
ROUNDED = 8 * 2.0**-24  # of the largest number: what nobody's float32 is expected to better


class Case(NamedTuple):
    ours: object  # a function of tensors
    theirs: object  # PyTorch's
    arrays: tuple


def errors(results, exact):
    """The largest error of each array, relative to its largest number."""
    return [np.abs(r - e).max() / np.abs(e).max() for r, e in zip(results, exact, strict=True)]


def of_torch(case, dtype, dout):
    """Output and gradients."""
    inputs = [torch.tensor(a, dtype=dtype if a.dtype.kind == "f" else None) for a in case.arrays]
    leaves = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    out = case.theirs(*inputs)
    out.backward(torch.tensor(dout, dtype=dtype))
    return [x.detach().numpy() for x in (out, *(leaf.grad for leaf in leaves))]


def of_minigrad(case, backend, dout):
    place = runtime.asarray("cuda-sim" if backend == "cuda-sim" else "cpu")
    inputs = [mg.Tensor(place(a), requires_grad=True) if a.dtype.kind == "f" else a for a in case.arrays]
    with kernels.use("reference" if backend == "reference" else "fast"):
        out = case.ours(*inputs)
        out.backward(place(dout))
    return [on_host(out.data), *(on_host(x.grad) for x in inputs if isinstance(x, mg.Tensor))]


def check(case, backend):
    case = case._replace(arrays=tuple(a.astype(np.float32) if a.dtype.kind == "f" else a for a in case.arrays))
    rng = np.random.default_rng(9)
    shape = case.theirs(*(torch.tensor(a) for a in case.arrays)).shape
    dout = np.asarray(rng.standard_normal(shape), np.float32)
    with sdpa_kernel(SDPBackend.MATH):
        exact = of_torch(case, torch.float64, dout)
    allowed = [max(ROUNDED, 2 * error) for error in errors(of_torch(case, torch.float32, dout), exact)]
    found = errors(of_minigrad(case, backend, dout), exact)
    assert all(f <= a for f, a in zip(found, allowed, strict=True)), f"errors {found}, allowed {allowed}"


# -------------------------------------------------------------------------------------------------- attention

#: a common offset of the scores, and the standard deviation of q and k
SCORES = [(0, 0.4), (0, 4.5), (100, 0.5), (1e4, 0.5), (-1e4, 0.5)]


def queries_and_keys(rng, T, offset, spread):
    """Of 32 numbers; the first of each adds `offset` to every score."""
    q, k = (np.round(8 * spread * rng.standard_normal((2, 2, T, 32))) / 8 for _ in range(2))
    if offset:
        q[..., 0], k[..., 0] = offset / 64, 64
    return q, k


@SETS
@pytest.mark.parametrize(("offset", "spread"), SCORES)
@pytest.mark.parametrize(("T", "causal"), [(70, True), (33, False)])
def test_large_scores_spoil_attention_no_more_than_pytorchs(backend, offset, spread, T, causal):
    rng = np.random.default_rng(0)
    q, k = queries_and_keys(rng, T, offset, spread)
    check(
        Case(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0),
            lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0),
            (q, k, rng.standard_normal(q.shape)),
        ),
        backend,
    )


# ------------------------------------------------------------------------------------------ softmax and losses

LOGITS = [(0, 1), (0, 40), (100, 5), (1e4, 1), (-1e4, 1)]


@SETS
@pytest.mark.parametrize(("offset", "spread"), LOGITS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "cross_entropy"])
def test_large_logits_spoil_a_softmax_no_more_than_pytorchs(backend, name, offset, spread):
    rng = np.random.default_rng(1)
    logits, last = offset + spread * rng.standard_normal((32, 600)), {"dim": -1}
    settings = {"softmax": last, "log_softmax": last, "cross_entropy": {}}[name]
    targets = (rng.integers(0, 600, 32),) if name == "cross_entropy" else ()
    ours, theirs = getattr(F, name), getattr(TF, name)
    check(Case(lambda *x: ours(*x, **settings), lambda *x: theirs(*x, **settings), (logits, *targets)), backend)


@SETS
@pytest.mark.parametrize("spread", [0.2, 3.5, 18])
def test_large_logits_spoil_the_fused_head_no_more_than_pytorchs(backend, spread):
    """spread: 18 makes logits of 100."""
    rng = np.random.default_rng(2)
    x, weight, targets = (
        spread * rng.standard_normal((48, 32)),
        rng.standard_normal((300, 32)),
        rng.integers(0, 300, 48),
    )
    check(
        Case(F.linear_cross_entropy, lambda x, w, t: TF.cross_entropy(TF.linear(x, w), t), (x, weight, targets)),
        backend,
    )


# ------------------------------------------------------------------------------------------------------ norms


@SETS
@pytest.mark.parametrize("mean", [0, 100, 1e4])
@pytest.mark.parametrize("C", [37, 256])
def test_a_large_mean_spoils_norms_no_more_than_pytorchs(backend, mean, C):
    rng = np.random.default_rng(3)
    x, (weight, bias) = mean + rng.standard_normal((64, C)), rng.standard_normal((2, C))
    check(
        Case(lambda *a: F.layer_norm(a[0], C, *a[1:]), lambda *a: TF.layer_norm(a[0], (C,), *a[1:]), (x, weight, bias)),
        backend,
    )
    check(Case(lambda x, w: F.rms_norm(x, C, w), lambda x, w: TF.rms_norm(x, (C,), w), (x, weight)), backend)


# ------------------------------------------------------------------------------------------------ seeded bugs


def rounded_logsumexp(right):
    """Cross-entropy's gradient from one rounded logsumexp in place of its two parts."""

    def wrong(dout, logits, targets, logsumexp, *settings):
        rounded = np.stack([logsumexp.sum(axis=-1), np.zeros_like(logsumexp[..., 0])], axis=-1)
        return right(dout, logits, targets, rounded, *settings)

    return wrong


def variance_of_squares(right):
    """Layer normalisation with the variance E[x^2] - E[x]^2, which cancels beside a large mean."""

    def wrong(x, weight, bias, eps):
        out, mean, _ = right(x, weight, bias, eps)
        variance = (x * x).mean(axis=-1) - mean * mean
        return out, mean, 1 / np.sqrt(np.maximum(variance, 0) + x.dtype.type(eps))

    return wrong


@pytest.mark.parametrize(
    ("kernel", "bug", "test"),
    [
        ("softmax_cross_entropy_backward", rounded_logsumexp,
         lambda: test_large_logits_spoil_a_softmax_no_more_than_pytorchs("reference", "cross_entropy", 1e4, 1)),
        ("layernorm_forward", variance_of_squares,
         lambda: test_a_large_mean_spoils_norms_no_more_than_pytorchs("reference", 1e4, 37)),
    ],
)  # fmt: skip
def test_a_formula_that_loses_digits_is_found(kernel, bug, test, monkeypatch):
    reference = kernels.backend("reference")
    test()
    monkeypatch.setattr(reference, kernel, bug(getattr(reference, kernel)))
    with pytest.raises(AssertionError, match="errors"):
        test()
