"""Softmax cross-entropy: the fast kernel gives the reference's loss, logsumexp and gradient, in one array."""

import tracemalloc

import numpy as np
import pytest
from parity import assert_same_bits, check, normal, strided, widened

from kernels import backend

cpu, reference = backend("cpu"), backend("reference")

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
IGNORE = -100
SIZES = [(1, 1), (1, 31), (33, 5), (127, 129), (3, 511), (3, 512), (2, 513), (5, 1025), (2, 5003)]  # block: 512


def check_both(logits, targets, reduction="mean", dout=0.7):
    """Forward, then backward from exact saved values. Returns the fast loss and gradient."""
    loss, _, _ = check("softmax_cross_entropy_forward", logits, targets, IGNORE, reduction)
    _, logsumexp, divisor = reference.softmax_cross_entropy_forward(widened(logits), targets, IGNORE, reduction)
    saved = logsumexp.astype(logits.dtype), divisor, IGNORE, False
    (dlogits,) = check("softmax_cross_entropy_backward", np.asarray(dout, logits.dtype), logits, targets, *saved,
                       scale=abs(dout) / int(divisor))  # fmt: skip  # V = 1: the gradient is 0 on paper
    return loss, dlogits


def inputs(rng, dtype, n, V):
    return normal(rng, dtype, n, V), rng.integers(0, V, n)


@DTYPES
@pytest.mark.parametrize("layout", ["plain", "transposed", "sliced"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sizes_and_layouts(dtype, layout, reduction):
    rng = np.random.default_rng(1)
    for n, V in SIZES:
        logits, targets = inputs(rng, dtype, n, V)
        check_both(strided(logits, layout), targets, reduction)


@DTYPES
def test_a_batch_of_rows(dtype):
    rng = np.random.default_rng(2)
    logits, targets = normal(rng, dtype, 2, 3, 5, 37), rng.integers(0, 37, (2, 3, 5))
    _, dlogits = check_both(logits, targets)
    assert dlogits.shape == logits.shape


@DTYPES
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_rows_count_for_nothing(dtype, reduction):
    rng = np.random.default_rng(3)
    logits, targets = inputs(rng, dtype, 31, 129)
    targets[::3] = IGNORE
    loss, dlogits = check_both(logits, targets, reduction)
    assert (dlogits[::3] == 0).all() and (dlogits[1] != 0).all()
    targets[:] = IGNORE
    loss, dlogits = check_both(logits, targets, reduction)
    assert loss == 0 and (dlogits == 0).all()  # not NaN


@DTYPES
def test_logits_of_ten_thousand(dtype):
    """Integers, exact in float32: the tolerance needs no widening although exp(10000) is far out of range."""
    rng = np.random.default_rng(4)
    logits = rng.integers(-10_000, 10_001, (33, 1025)).astype(dtype)
    logits[0], logits[1], logits[2, 700:] = 10_000, -10_000, 10_000
    check_both(logits, rng.integers(0, 1025, 33))


@DTYPES
@pytest.mark.parametrize("masked", [slice(0, 1), slice(5, 40), slice(0, 512), slice(0, 1030), slice(600, 1300)])
def test_masked_logits(dtype, masked):
    """-inf means probability 0, also where it fills the blocks that the kernel sees first."""
    rng = np.random.default_rng(5)
    logits, targets = normal(rng, dtype, 7, 1300), np.full(7, 550 if masked.stop in (1, 40, 512, 1300) else 1200)
    logits[:, masked] = -np.inf
    _, dlogits = check_both(logits, targets)
    assert (dlogits[:, masked] == 0).all()


@DTYPES
def test_a_masked_target_costs_infinity(dtype):
    logits = np.array([[0.0, -np.inf, 1.0]], dtype)
    loss, _, _ = check("softmax_cross_entropy_forward", logits, np.array([1]), IGNORE, "mean")
    assert loss == np.inf


@DTYPES
@pytest.mark.parametrize("backend", [reference, cpu])
def test_overwrite_gives_the_same_bits_in_the_array_of_the_logits(dtype, backend):
    logits, targets = inputs(np.random.default_rng(6), dtype, 31, 1025)
    targets[:4] = IGNORE
    _, logsumexp, divisor = backend.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
    rest = targets, logsumexp, divisor, IGNORE
    kept = backend.softmax_cross_entropy_backward(np.ones((), dtype), logits, *rest, False)
    assert not np.shares_memory(kept, logits)
    over = backend.softmax_cross_entropy_backward(np.ones((), dtype), logits, *rest, True)
    assert over.ctypes.data == logits.ctypes.data
    assert_same_bits(over, kept)


def test_no_second_array_of_the_size_of_the_logits():
    logits, targets = inputs(np.random.default_rng(7), np.float32, 64, 4096)

    def forward_and_backward(overwrite):
        _, logsumexp, divisor = cpu.softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
        dout = np.ones((), np.float32)
        cpu.softmax_cross_entropy_backward(dout, logits, targets, logsumexp, divisor, IGNORE, overwrite)

    def peak(overwrite):
        tracemalloc.start()
        try:
            forward_and_backward(overwrite)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    forward_and_backward(False)  # compiled now, and not while memory is measured
    assert peak(overwrite=False) >= logits.nbytes  # the gauge sees an array of that size
    assert peak(overwrite=True) < logits.nbytes / 8
