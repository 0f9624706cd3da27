"""Attention: tiles and online softmax give the reference's numbers, with and without mask and dropout.

Also what no tolerance can show: masks equal bit for bit, causality exact, gradients written where asked.
"""

import numpy as np
import pytest
from parity import (
    assert_close,
    assert_same_bits,
    attention_inputs,
    attention_saved,
    check,
    fused_heads,
    normal,
    widened,
)

from kernels import backend

cpu, reference = backend("cpu"), backend("reference")

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CAUSAL = pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
DROPOUT = pytest.mark.parametrize("p", [0.0, 0.3])
BACKENDS = pytest.mark.parametrize("backend", [reference, cpu], ids=["reference", "cpu"])
# (T, S, D); a tile is 64. D 16 with every T, then T 65 with every D, then T and S that differ
SIZES = [(t, t, 16) for t in (1, 2, 31, 33, 63, 64, 65, 127, 129, 130)]
SIZES += [(65, 65, d) for d in (1, 5, 64, 80, 128)]
SIZES += [(1, 129, 16), (129, 1, 16), (63, 65, 5), (65, 130, 16), (130, 65, 16), (64, 63, 16), (31, 257, 33)]


def size_of_cancelled(dout, q, k, v, scale):
    """Where softmax is all on one key, dq and dk are (almost) 0 on paper: what is left of terms of this size."""
    dprobs = widened(dout) @ widened(v).swapaxes(-1, -2)
    return float(np.abs(dprobs).max() * max(np.abs(q).max(), np.abs(k).max()) * scale)


def check_both(dout, q, k, v, *setting, cancels=False):
    """Forward, then backward from exact saved values into the slices of one array, as a training step does it."""
    check("attention_forward", q, k, v, *setting)
    out, logsumexp = attention_saved(q, k, v, *setting)
    into = [fused_heads(np.full_like(x, np.nan)) for x in (q, k, v)]
    saved = dout, q, k, v, out, logsumexp
    grads = cpu.attention_backward(*saved, *setting, into=into)
    for name, grad, target, expected in zip(
        ("dq", "dk", "dv"), grads, into, reference.attention_backward(*widened(saved), *setting), strict=True
    ):
        assert grad is target
        size = size_of_cancelled(dout, q, k, v, setting[0]) if cancels and name != "dv" else 0.0
        assert_close("attention_backward", grad, expected, q.dtype, size, name)


@DTYPES
@CAUSAL
@DROPOUT
def test_sizes(dtype, causal, p):
    rng = np.random.default_rng(1)
    for T, S, D in SIZES:
        one_key = S == 1 or (causal and T == 1)
        check_both(*attention_inputs(rng, dtype, 2, 3, T, S, D), D**-0.5, causal, p, 5, 7, 11, cancels=one_key)


@CAUSAL
def test_contiguous_inputs_and_fresh_gradients(causal):
    """The other layout: the kernels are compiled once more for it. float32 alone, to save the time."""
    rng = np.random.default_rng(2)
    dout, q, k, v = (normal(rng, np.float32, 2, 3, 67, 20) for _ in range(4))
    setting = (0.2, causal, 0.3, 5, 7, 11)
    out, logsumexp = check("attention_forward", q, k, v, *setting)
    check("attention_backward", dout, q, k, v, np.ascontiguousarray(out), logsumexp, *setting)


@BACKENDS
def test_into_writes_in_place_what_is_returned_otherwise(backend):
    dout, q, k, v = attention_inputs(np.random.default_rng(3), np.float32, 2, 2, 65, 65, 16)
    setting = (0.25, True, 0.3, 1, 2, 3)
    saved = dout, q, k, v, *attention_saved(q, k, v, *setting)
    into = tuple(fused_heads(np.full_like(x, np.nan)) for x in (q, k, v))
    returned = backend.attention_backward(*saved, *setting, into=into)
    assert all(a is b for a, b in zip(returned, into, strict=True))
    fresh = backend.attention_backward(*(np.ascontiguousarray(a) for a in saved), *setting)
    for a, b in zip(into, fresh, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@DTYPES
@CAUSAL
def test_scores_of_ten_thousand(dtype, causal):
    """Integers, exact in float32: the tolerance needs no widening although exp(10000) is far out of range."""
    rng = np.random.default_rng(4)
    q, k = (fused_heads(rng.integers(-50, 51, (2, 2, 130, 16)).astype(dtype)) for _ in range(2))
    dout, _, _, v = attention_inputs(rng, dtype, 2, 2, 130, 130, 16)
    assert np.abs(q @ k.swapaxes(-1, -2)).max() > 1e4
    check_both(dout, q, k, v, 1.0, causal, 0.0, 1, 2, 3, cancels=True)


@DTYPES
@CAUSAL
@BACKENDS
@pytest.mark.parametrize("D", [32, 80])
def test_backward_forms_the_scores_of_forward_again(backend, D, dtype, causal):
    """Then a row of probabilities sums to 1, however large the scores are, but for the rounding of logsumexp.

    Trap: scores times scale, and queries times scale before the product, differ by |score| * eps.
    """
    rng, T = np.random.default_rng(9), 130
    q, k, v = (fused_heads((8 * rng.standard_normal((1, 2, T, D))).astype(dtype)) for _ in range(3))
    dout = fused_heads(np.zeros_like(q))
    dout[:, :, -D:] = np.eye(D)  # dv's column d is the row of probabilities of the query T - D + d
    setting = (D**-0.5, causal, 0.0, 1, 2, 3)
    out, logsumexp = backend.attention_forward(q, k, v, *setting)
    _, _, dv = backend.attention_backward(dout, q, k, v, out, logsumexp, *setting)
    eps = np.finfo(dtype).eps
    assert np.abs(dv.sum(axis=2, dtype=np.float64) - 1).max() < np.spacing(np.abs(logsumexp).max()) / 2 + 16 * eps


@pytest.mark.parametrize("shape", [(0, 2, 5, 8), (2, 0, 5, 8), (2, 2, 0, 8)])
def test_nothing_to_attend_with(shape):
    q = np.zeros(shape, np.float32)
    out, logsumexp = cpu.attention_forward(q, q, q, 1.0, True, 0.0, 1, 2, 3)
    grads = cpu.attention_backward(out, q, q, q, out, logsumexp, 1.0, True, 0.0, 1, 2, 3)
    assert [x.shape for x in (out, *grads)] == [shape] * 4 and logsumexp.shape == shape[:3]


@pytest.mark.parametrize("view", [lambda x: x[..., ::2], lambda x: x[:, :, ::-1, 20:]], ids=["gaps", "backwards"])
def test_rows_with_gaps_and_backwards(view):
    dout, q, k, v = (view(normal(np.random.default_rng(i), np.float32, 2, 3, 67, 40)) for i in range(4))
    saved = dout, q, k, v, *cpu.attention_forward(q, k, v, 0.2, True, 0.0, 1, 2, 3)
    grads = cpu.attention_backward(*saved, 0.2, True, 0.0, 1, 2, 3)
    whole = cpu.attention_backward(*(np.ascontiguousarray(x) for x in saved), 0.2, True, 0.0, 1, 2, 3)
    assert_same_bits(list(grads), list(whole))


@DTYPES
@CAUSAL
@pytest.mark.parametrize("n", [1, 2, 3, 5, 63, 67])
def test_all_scores_far_below_zero(dtype, causal, n):
    """Trap: in a block that is not full, scores of keys that are not there, or masked ones, as 0 are the largest."""
    q = fused_heads(np.full((1, 2, n, 8), 16.0, dtype))
    dout, _, _, v = attention_inputs(np.random.default_rng(8), dtype, 1, 2, n, n, 8)
    check_both(dout, q, -q, v, 1.0, causal, 0.0, 1, 2, 3, cancels=True)  # every score is -2048


@CAUSAL
@pytest.mark.parametrize("n", [64, 80, 129])
def test_dropout_masks_are_bit_equal(causal, n):
    """With the identity as v the output is the dropped probabilities; as dout it makes dv their transpose."""
    rng = np.random.default_rng(5)
    identity = fused_heads(np.broadcast_to(np.eye(n, dtype=np.float32), (2, 3, n, n)))
    _, q, k, _ = attention_inputs(rng, np.float32, 2, 3, n, n, n)
    setting = (n**-0.5, causal, 0.3, 5, 7, 11)
    expected, _ = reference.attention_forward(q, k, identity, *setting)
    actual, logsumexp = cpu.attention_forward(q, k, identity, *setting)
    np.testing.assert_array_equal(actual == 0, expected == 0)
    assert 0.2 < (expected[..., -1, :] == 0).mean() < 0.4  # the last query sees all: only dropout makes zeros
    into = [fused_heads(np.empty_like(q)) for _ in range(3)]
    _, _, dv = cpu.attention_backward(identity, q, k, identity, actual, logsumexp, *setting, into=into)
    np.testing.assert_array_equal(dv.swapaxes(-1, -2) == 0, expected == 0)


@BACKENDS
@pytest.mark.parametrize("s", [1, 63, 64, 65, 129])
@DROPOUT
def test_no_output_depends_on_a_later_token(backend, s, p):
    """Trap: a mask that is added, or finite, lets a loud later token through. Nothing may change by a bit."""
    _, q, k, v = attention_inputs(np.random.default_rng(6), np.float32, 2, 2, 130, 130, 16)
    setting = (0.25, True, p, 1, 2, 3)
    out, logsumexp = backend.attention_forward(q, k, v, *setting)
    for x in (q, k, v):
        x[:, :, s:] *= -1e4
    perturbed, perturbed_logsumexp = backend.attention_forward(q, k, v, *setting)
    assert_same_bits(perturbed[:, :, :s], out[:, :, :s])
    assert_same_bits(perturbed_logsumexp[..., :s], logsumexp[..., :s])
    assert (perturbed[:, :, s:] != out[:, :, s:]).any()


@BACKENDS
@pytest.mark.parametrize("s", [1, 63, 64, 65, 129])
def test_no_gradient_reaches_a_later_token(backend, s):
    """The backward pass has a mask of its own: a loss on tokens before s is not to move tokens from s on."""
    dout, q, k, v = attention_inputs(np.random.default_rng(7), np.float32, 2, 2, 130, 130, 16)
    dout[:, :, s:] = 0
    setting = (0.25, True, 0.3, 1, 2, 3)
    into = [fused_heads(np.empty_like(q)) for _ in range(3)]
    for grad in backend.attention_backward(dout, q, k, v, *attention_saved(q, k, v, *setting), *setting, into=into):
        assert (grad[:, :, s:] == 0).all()
        assert (grad[:, :, : max(s - 1, 1)] != 0).any() or s == 1  # one key: dq and dk are 0 on paper
