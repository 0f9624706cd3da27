"""Attention with operands rounded to bfloat16: each output within what its one more rounding, of the weights, may cost.

q, k, v and dout are rounded before all else, so the reference gets rounded ones and computes in float64. What is left
are the probabilities and their gradients, which are operands too: a rounding changes one by 2**-8 of it at most.
"""

import numba
import numpy as np
import pytest
from parity import assert_same_bits, attention_inputs, fused_heads, normal, run_without_amx, widened

from kernels import backend, matmul_precision

cpu, reference = backend("cpu"), backend("reference")

pytestmark = pytest.mark.bfloat16
ROUNDING, FLOAT32 = 2.0**-8, 4e-6
# (T, S, D): blocks of 64 and panels of 32, whole and ragged; T and S that differ
SIZES = [(t, t, 16) for t in (1, 2, 31, 33, 64, 65, 130)] + [(65, 65, d) for d in (1, 5, 32, 33, 64, 80, 128)]
SIZES += [(1, 129, 16), (129, 1, 16), (65, 130, 16), (130, 65, 16), (31, 257, 33)]
BACKENDS = pytest.mark.parametrize("backend", [reference, cpu], ids=["plain", "compiled"])


@pytest.fixture(autouse=True)
def bfloat16_operands():
    matmul_precision.select("bfloat16")
    yield
    matmul_precision.select("float32")


def probabilities(q, k, scale, causal):
    """(B, H, T, S), float64."""
    scores = reference._scores(q, k, scale, causal)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def worst(actual, expected, size):
    """The largest error beside what may come of rounding the weights of terms of that size and of float32 sums."""
    return (np.abs(actual - expected) / (ROUNDING * size + FLOAT32 * size.max())).max()


def check(backend, T, S, D, causal, p):
    """Forward, and backward from its results into slices of one array."""
    dout, q, k, v = attention_inputs(np.random.default_rng(T + S + D), np.float32, 2, 3, T, S, D)
    setting = (D**-0.5, causal, p, 5, 7, 11)
    exact_inputs = [widened(matmul_precision.rounded(x)) for x in (q, k, v)]
    out, logsumexp = backend.attention_forward(q, k, v, *setting)
    expected, expected_logsumexp = reference.attention_forward(*exact_inputs, *setting)
    mask = reference._attention_mask((2, 3, T, S), p, 5, 7, 11, exact_inputs[0])
    weights = probabilities(*exact_inputs[:2], setting[0], causal) * mask
    assert worst(out, expected, weights @ np.abs(exact_inputs[2])) < 1
    np.testing.assert_allclose(logsumexp, expected_logsumexp, rtol=0, atol=2e-6 * np.abs(expected_logsumexp).max())

    into = [fused_heads(np.full_like(x, np.nan)) for x in (q, k, v)]
    grads = backend.attention_backward(dout, q, k, v, out, logsumexp, *setting, into=into)
    assert all(grad is target for grad, target in zip(grads, into, strict=True))
    exact_dout = widened(matmul_precision.rounded(dout))
    dots = (widened(dout) * widened(out)).sum(axis=-1, keepdims=True)  # of numbers that are no operands
    dprobs = exact_dout @ exact_inputs[2].swapaxes(-1, -2) * mask
    probs = probabilities(*exact_inputs[:2], setting[0], causal)
    dscores, size = probs * (dprobs - dots) * setting[0], probs * (np.abs(dprobs) + np.abs(dots)) * setting[0]
    left, right = (x.swapaxes(-1, -2) for x in (dscores, weights))
    q, k = exact_inputs[:2]
    assert worst(grads[0], dscores @ k, size @ np.abs(k)) < 1
    assert worst(grads[1], left @ q, size.swapaxes(-1, -2) @ np.abs(q)) < 1
    assert worst(grads[2], right @ exact_dout, right @ np.abs(exact_dout)) < 1


@BACKENDS
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_sizes(backend, causal, p):
    for T, S, D in SIZES:
        check(backend, T, S, D, causal, p)


def test_it_rounds_to_the_nearest_as_the_plain_kernel_does():
    """Almost all numbers agree to float32: some weight may lie so near to a tie that the two round it apart."""
    dout, q, k, v = attention_inputs(np.random.default_rng(1), np.float32, 2, 3, 130, 130, 64)
    setting = (0.125, True, 0.3, 5, 7, 11)
    saved = dout, q, k, v, *reference.attention_forward(q, k, v, *setting)
    for fast, plain in zip(
        cpu.attention_backward(*saved, *setting), reference.attention_backward(*saved, *setting), strict=True
    ):
        assert np.median(np.abs(fast - plain)) < 2e-7 * np.abs(plain).max()


@BACKENDS
def test_forward_rounds_the_values(backend):
    """With one key its weight is 1 exactly."""
    _, q, k, v = attention_inputs(np.random.default_rng(4), np.float32, 2, 2, 5, 1, 20)
    out, _ = backend.attention_forward(q, k, v, 0.25, False, 0.0, 1, 2, 3)
    np.testing.assert_array_equal(out, np.broadcast_to(matmul_precision.rounded(v), out.shape))


def test_forward_rounds_the_weights():
    """In one block they are exp(score - maximum), rounded before the product and divided by their sum after it."""
    _, q, k, v = attention_inputs(np.random.default_rng(5), np.float32, 2, 2, 64, 64, 32)
    scores = reference._scores(q, k, 0.25, True)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total, exact_v = weights.sum(axis=-1, keepdims=True), matmul_precision.rounded(v)
    expected, unrounded = matmul_precision.rounded(weights) @ exact_v / total, weights @ exact_v / total
    out, _ = cpu.attention_forward(q, k, v, 0.25, True, 0.0, 1, 2, 3)
    assert np.median(np.abs(out - expected)) < 2e-7 < 1e-5 < np.median(np.abs(out - unrounded))


@pytest.mark.two_threads
def test_one_thread_and_two_give_the_same_bits():
    dout, q, k, v = attention_inputs(np.random.default_rng(6), np.float32, 3, 3, 130, 130, 33)
    setting, found, before = (0.2, True, 0.3, 5, 7, 11), [], numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            out, logsumexp = cpu.attention_forward(q, k, v, *setting)
            found.append([out, logsumexp, *cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting)])
    finally:
        numba.set_num_threads(before)
    assert_same_bits(*found)


def test_nan_shows_to_those_who_see_the_token_and_to_no_other():
    dout, q, k, v = attention_inputs(np.random.default_rng(7), np.float32, 2, 2, 130, 130, 16)
    setting = (0.25, True, 0.0, 1, 2, 3)
    clean, _ = cpu.attention_forward(q, k, v, *setting)
    k[1, 0, 70, 3] = np.nan
    out, logsumexp = cpu.attention_forward(q, k, v, *setting)
    assert np.isnan(out[1, 0, 70:]).all()
    assert_same_bits([out[1, 0, :70], out[0], out[1, 1]], [clean[1, 0, :70], clean[0], clean[1, 1]])
    for grad in cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting):
        assert np.isnan(grad[1, 0]).any() and np.isfinite(grad[0]).all() and np.isfinite(grad[1, 1]).all()


def test_float64_never_rounds():
    dout, q, k, v = attention_inputs(np.random.default_rng(2), np.float64, 2, 2, 65, 65, 16)
    setting = (0.25, True, 0.0, 1, 2, 3)
    out, logsumexp = cpu.attention_forward(q, k, v, *setting)
    found = [out, logsumexp, *cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting)]
    matmul_precision.select("float32")
    assert_same_bits(found[:2], list(cpu.attention_forward(q, k, v, *setting)))
    assert_same_bits(found[2:], list(cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting)))


@pytest.mark.parametrize("s", [1, 31, 32, 64, 65, 129])
def test_no_output_depends_on_a_later_token_and_no_gradient_reaches_one(s):
    dout, q, k, v = attention_inputs(np.random.default_rng(3), np.float32, 2, 2, 130, 130, 16)
    setting = (0.25, True, 0.3, 1, 2, 3)
    dout[:, :, s:] = 0
    out, logsumexp = cpu.attention_forward(q, k, v, *setting)
    for grad in cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting):
        assert (grad[:, :, s:] == 0).all() and (
            (grad[:, :, :s] != 0).any() or s == 1
        )  # one key: dq and dk are 0 on paper
    for x in (q, k, v):
        x[:, :, s:] *= -1e4
    later, later_logsumexp = cpu.attention_forward(q, k, v, *setting)
    assert_same_bits([later[:, :, :s], later_logsumexp[..., :s]], [out[:, :, :s], logsumexp[..., :s]])


def test_other_layouts_give_the_same_bits():
    dout, q, k, v = (normal(np.random.default_rng(n), np.float32, 2, 3, 67, 20) for n in range(4))
    setting = (0.2, True, 0.3, 5, 7, 11)
    out, logsumexp = cpu.attention_forward(q, k, v, *setting)
    split = [fused_heads(x) for x in (dout, q, k, v)]
    assert_same_bits(cpu.attention_forward(*split[1:], *setting), (out, logsumexp))
    assert_same_bits(
        cpu.attention_backward(*split, out, logsumexp, *setting),
        cpu.attention_backward(dout, q, k, v, out, logsumexp, *setting),
    )


@pytest.mark.amx
def test_the_other_instruction_gives_the_same(tmp_path):
    """Without AMX pairs are multiplied in vector registers: compiled anew in a process of its own."""
    code = (
        "from kernels import backend, matmul_precision; matmul_precision.select('bfloat16'); cpu = backend('cpu')\n"
        "from test_bfloat16_attention import check\n"
        "check(cpu, 130, 130, 33, True, 0.3); check(cpu, 65, 130, 64, False, 0.0)\n"
        "from kernels.attention.cpu_bfloat16 import _multiply as compiled\n"
    )
    run_without_amx(code, tmp_path)
