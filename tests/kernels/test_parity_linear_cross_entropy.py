"""The head fused with its loss: the numbers of the two in turn, without an array of all logits."""

import tracemalloc

import numpy as np
import pytest
from parity import assert_same_bits, check, normal, strided, widened

from kernels import backend, matmul_precision
from kernels.linear_cross_entropy import cpu as linear_cross_entropy

cpu, reference = backend("cpu"), backend("reference")

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
IGNORE = -100


def inputs(rng, dtype, N, K, V):
    """x, weight and targets, a few of which are ignored."""
    targets = rng.integers(0, V, N)
    targets[1::5] = IGNORE
    return normal(rng, dtype, N, K), normal(rng, dtype, V, K), targets


@DTYPES
@pytest.mark.parametrize("layout", ["plain", "transposed", "sliced"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sizes_and_layouts(dtype, layout, reduction):
    rng = np.random.default_rng(1)
    for N, K, V in [(1, 1, 1), (31, 5, 33), (511, 7, 129), (512, 3, 5), (1031, 16, 17), (2, 33, 2053)]:
        x, weight, targets = inputs(rng, dtype, N, K, V)
        x, weight = strided(x, layout), strided(weight, layout)
        # V = 1: the loss and its gradients are 0 on paper; their error is that of what cancelled
        scale = 10.0 if V == 1 else 0.0
        check("linear_cross_entropy_forward", x, weight, targets, IGNORE, reduction, 8.0, True, scale=scale)
        check("linear_cross_entropy_forward", x, weight, targets, IGNORE, reduction, 8.0, False, scale=scale)


@DTYPES
def test_a_batch_and_nothing_that_counts(dtype):
    rng = np.random.default_rng(2)
    x, weight, targets = normal(rng, dtype, 2, 3, 7), normal(rng, dtype, 11, 7), rng.integers(0, 11, (2, 3))
    _, dx, _ = check("linear_cross_entropy_forward", x, weight, targets, IGNORE, "mean", 1.0, True)
    assert dx.shape == x.shape
    targets[:] = IGNORE
    loss, dx, dweight = check("linear_cross_entropy_forward", x, weight, targets, IGNORE, "mean", 1.0, True)
    assert loss == 0 and not dx.any() and not dweight.any()  # not NaN
    check("linear_cross_entropy_forward", x[:0], weight, targets[:0], IGNORE, "mean", 1.0, True)


@DTYPES
@pytest.mark.parametrize("backend", [reference, cpu])
def test_it_is_the_two_in_turn(dtype, backend):
    """Forward prepares what backward of the separate kernels gives, whatever grad_scale was."""
    x, weight, targets = inputs(np.random.default_rng(3), dtype, 67, 9, 31)
    logits = backend.linear_forward(x, weight, None)
    loss, logsumexp, divisor = backend.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
    dout = np.asarray(0.3, dtype)
    saved = targets, logsumexp, divisor, IGNORE, False
    dlogits = backend.softmax_cross_entropy_backward(dout, logits, *saved)
    expected = loss, *backend.linear_backward(dlogits, x, weight, None)[:2]
    for grad_scale in (1.0, 1024.0):
        setting = targets, IGNORE, "mean", grad_scale, True
        fused, dx, dweight = backend.linear_cross_entropy_forward(x, weight, *setting)
        actual = fused, *backend.linear_cross_entropy_backward(dout, dx, dweight, grad_scale)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, e, rtol=0, atol=(1e-6 if dtype == np.float32 else 1e-14) * np.abs(e).max())


@DTYPES
def test_the_chunks_do_not_show(dtype, monkeypatch):
    args = *inputs(np.random.default_rng(4), dtype, 131, 9, 31), IGNORE, "mean", 2.0, True
    for rows in (1, 7, 130, 131):
        monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", rows)
        check("linear_cross_entropy_forward", *args)


@pytest.mark.bfloat16
def test_the_chunks_do_not_show_where_operands_are_rounded(monkeypatch):
    args = *inputs(np.random.default_rng(4), np.float32, 131, 40, 70), IGNORE, "mean", 2.0, True
    monkeypatch.setattr(matmul_precision, "dtype", "bfloat16")
    loss, dx, dweight = linear_cross_entropy.linear_cross_entropy_forward(*args)
    for rows in (7, 130):
        monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS_BFLOAT16", rows)
        other = linear_cross_entropy.linear_cross_entropy_forward(*args)
        assert_same_bits(dx, other[1])
        for one, another in ((loss, other[0]), (dweight, other[2])):  # sums over tokens, of parts by now
            np.testing.assert_allclose(one, another, rtol=0, atol=1e-6 * np.abs(one).max())


@DTYPES
@pytest.mark.parametrize("backend", [reference, cpu])
def test_gradients_in_the_arrays_that_are_given(dtype, backend):
    """The bits are those without `into`, and overwriting only says where the results are put."""
    x, weight, targets = inputs(np.random.default_rng(7), dtype, 33, 9, 31)
    setting, into = (targets, IGNORE, "sum", 8.0, True), np.full_like(weight, np.nan)
    loss, dx, dweight = backend.linear_cross_entropy_forward(x, weight, *setting)
    there = backend.linear_cross_entropy_forward(x, weight, *setting, into)
    assert there[2] is into and np.array_equal(into, dweight) and np.array_equal(there[1], dx) and there[0] == loss
    before = dx.copy(), dweight.copy()
    for dout in (8.0, 2.0):
        dout = np.asarray(dout, dtype)
        expected = backend.linear_cross_entropy_backward(dout, dx, dweight, 8.0)
        assert np.array_equal(dx, before[0]) and np.array_equal(dweight, before[1])
        assert expected[0] is not dx and expected[1] is not dweight
        saved = dx.copy(), dweight.copy()
        actual = backend.linear_cross_entropy_backward(dout, *saved, 8.0, True)
        for a, given, e in zip(actual, saved, expected, strict=True):
            assert a is given and np.array_equal(a, e)
    empty = backend.linear_cross_entropy_forward(x[:0], weight, targets[:0], IGNORE, "sum", 8.0, True, into)
    assert empty[2] is into and not into.any()


def test_no_array_of_all_logits(monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 64)
    x, weight, targets = inputs(np.random.default_rng(5), np.float32, 1024, 8, 1024)
    all_logits = 1024 * 1024 * 4

    def peak(call):
        call()  # compiled now, and not while memory is measured
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(lambda: cpu.linear_forward(x, weight, None)) >= all_logits  # the gauge sees an array of that size
    fused = peak(lambda: cpu.linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 1.0, True))
    assert fused < all_logits / 4


def test_the_reference_agrees_with_finite_differences():
    x, weight, targets = widened(inputs(np.random.default_rng(6), np.float64, 6, 3, 5))

    def loss(x, weight):
        return float(reference.linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 1.0, False)[0])

    _, dx, dweight = reference.linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 1.0, True)
    for array, grad in ((x, dx), (weight, dweight)):
        for i in np.ndindex(array.shape):
            value, step = array[i], 1e-5
            array[i] = value + step
            above = loss(x, weight)
            array[i] = value - step
            below = loss(x, weight)
            array[i] = value
            assert (above - below) / (2 * step) == pytest.approx(grad[i], abs=1e-9)
