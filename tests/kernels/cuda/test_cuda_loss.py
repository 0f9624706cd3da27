"""Softmax cross-entropy, the head fused with it, and linear layers on a device against the reference."""

import numpy as np
import pytest
from cuda_parity import (
    LIMITS,
    ON_DEVICE,
    PLACE,
    STORAGE,
    check,
    device,
    error,
    host,
    host_reads,
    misaligned,
    normal,
    wide,
)  # fmt: skip

from cudasim import array as sim
from kernels import backend
from kernels.cuda import simulated
from kernels.linear import cuda as linear
from kernels.linear.cuda import linear_backward, linear_forward
from kernels.linear_cross_entropy import cuda as linear_cross_entropy
from kernels.linear_cross_entropy.cuda import linear_cross_entropy_backward, linear_cross_entropy_forward
from kernels.softmax_cross_entropy.cuda import softmax_cross_entropy_backward, softmax_cross_entropy_forward

reference = backend("reference")

pytestmark = ON_DEVICE

IGNORE = -100
SIZES = [(1, 1), (3, 31), (5, 33), (129, 7), (2, 127), (3, 129), (2, 512), (2, 2053), (1, 4999)]
EVERY = pytest.mark.parametrize("dtype", STORAGE)


def accum(dtype):
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def check_both(logits, targets, reduction="mean", dout=0.7):
    check(softmax_cross_entropy_forward, logits, targets, IGNORE, reduction, accum=(0, 1))
    _, logsumexp, divisor = reference.softmax_cross_entropy_forward(wide(logits), targets, IGNORE, reduction)
    dtype = accum(logits.dtype)
    saved = targets, logsumexp.astype(dtype), divisor, IGNORE, False
    (dlogits,) = check(softmax_cross_entropy_backward, np.asarray(dout, dtype), logits, *saved)
    return dlogits


@EVERY
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_sizes(dtype, reduction):
    rng = np.random.default_rng(1)
    for n, V in SIZES:
        targets = rng.integers(0, V, n)
        targets[1::3] = IGNORE
        dlogits = check_both(normal(rng, dtype, n, V), targets, reduction)
        assert not wide(dlogits[1::3]).any()


@EVERY
def test_cross_entropy_of_a_batch_and_of_nothing(dtype):
    rng = np.random.default_rng(2)
    logits = normal(rng, dtype, 2, 3, 37)
    assert check_both(logits, rng.integers(0, 37, (2, 3))).shape == logits.shape
    check_both(logits, np.full((2, 3), IGNORE))  # 0, not NaN
    check_both(logits[:0], np.zeros((0, 3), np.int64))


@EVERY
def test_cross_entropy_of_large_and_of_masked_logits(dtype):
    rng = np.random.default_rng(3)
    logits = rng.integers(-30, 31, (5, 1301)).astype(dtype) * dtype.type(256)
    logits[0, :1100] = logits[1, 600:] = logits[2, 1:] = -np.inf  # whole vectors and threads see nothing else
    check_both(logits, np.array([1200, 3, 0, 9, 9]))
    loss = check(softmax_cross_entropy_forward, logits[:1], np.array([5]), IGNORE, "mean", accum=(0, 1))[0]
    assert loss == np.inf  # the target is masked


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cross_entropy_finds_a_bad_number_wherever_it_stands(dtype, bad):
    for column in (0, 3, 511, 1098):
        logits = np.zeros((3, 1099), dtype)
        logits[1, column] = bad
        logits, targets, dout = device((logits, np.zeros(3, np.int64), np.ones((), accum(dtype))))
        loss, *saved = softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
        assert np.isnan(host(loss)) and np.isnan(host(saved[0])[:, 1]).tolist() == [False, True, False]
        dlogits = wide(host(softmax_cross_entropy_backward(dout, logits, targets, *saved, IGNORE, False)))
        assert np.isnan(dlogits[1]).all() and np.isfinite(dlogits[[0, 2]]).all()


@EVERY
def test_a_target_outside_of_the_vocabulary_makes_the_loss_nan(dtype):
    logits = device(np.zeros((2, 33), dtype))
    for wrong in (-1, 33):
        loss, _, _ = softmax_cross_entropy_forward(logits, device(np.array([0, wrong])), IGNORE, "mean")
        assert np.isnan(host(loss))


@EVERY
def test_the_gradient_goes_over_the_logits_and_rows_may_begin_anywhere(dtype):
    rng = np.random.default_rng(4)
    for V in (33, 129, 2053):
        logits, targets = normal(rng, dtype, 3, V), device(np.array([0, IGNORE, V - 1]))
        dout = device(np.asarray(0.7, accum(dtype)))
        results = []
        for place in (device, misaligned):
            _, logsumexp, divisor = softmax_cross_entropy_forward(place(logits), targets, IGNORE, "mean")
            for overwrite in (False, True):
                mine = place(logits)
                out = softmax_cross_entropy_backward(dout, mine, targets, logsumexp, divisor, IGNORE, overwrite)
                assert (PLACE.pointer(out) == PLACE.pointer(mine)) == overwrite
                assert (host(mine).tobytes() == logits.tobytes()) == (not overwrite)
                results.append(wide(host(out)))
        for other in results[1:]:  # logsumexp is summed in another order where rows begin elsewhere
            assert error(other, results[0]) <= LIMITS[dtype.name]
    with pytest.raises(ValueError, match="cannot be overwritten"):
        softmax_cross_entropy_backward(
            dout, device(np.zeros((5, 3), dtype)).T, targets, logsumexp, divisor, IGNORE, True
        )


def head(rng, dtype, N=67, K=33, V=129):
    """x, weight and targets of a head, some of them ignored."""
    targets = rng.integers(0, V, N)
    targets[::5] = IGNORE
    return normal(rng, dtype, N, K) * dtype.type(0.25), normal(rng, dtype, V, K), targets


@EVERY
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_linear_cross_entropy_in_chunks(dtype, reduction, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 16)
    rng = np.random.default_rng(5)
    for N, K, V in [(67, 33, 129), (16, 8, 31), (1, 1, 1), (17, 5, 511)]:
        x, weight, targets = head(rng, dtype, N, K, V)
        args = device((x, weight, targets)), wide((x, weight, targets))
        for with_grads in (True, False):
            setting = IGNORE, reduction, 8.0, with_grads
            results = linear_cross_entropy_forward(*args[0], *setting)
            expected = reference.linear_cross_entropy_forward(*args[1], *setting)
            assert results[0].dtype == accum(dtype) and results[0].shape == ()
            assert (results[1] is None) == (results[2] is None) == (not with_grads)
            # 16 bits: the logits are rounded, their gradient is, the product is, and its chunks' sum
            limit = LIMITS[dtype.name] * (4 if dtype.itemsize == 2 else 1)
            for actual, wanted, like in zip(host(results), expected, (None, x, weight), strict=True):
                if actual is not None:
                    found = error(wide(actual), wanted, "linear_cross_entropy_forward", dtype)
                    assert found <= limit, (dtype, N, with_grads)
                    assert like is None or (actual.dtype, actual.shape) == (like.dtype, like.shape)


@EVERY
def test_linear_cross_entropy_backward(dtype):
    rng = np.random.default_rng(6)
    dx, dweight = normal(rng, dtype, 2, 31, 7), normal(rng, dtype, 129, 7)
    check(linear_cross_entropy_backward, np.asarray(0.75, accum(dtype)), dx, dweight, 8.0)


@EVERY
def test_linear_cross_entropy_in_the_arrays_that_are_given(dtype):
    x, weight, targets = device(head(np.random.default_rng(11), dtype, N=33, K=7, V=31))
    _, dx, dweight = linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 8.0, True)
    into = np.zeros_like(weight)
    there = linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 8.0, True, into)
    assert there[2] is into and host(into).tobytes() == host(dweight).tobytes()
    dout = np.asarray(0.75, accum(dtype), like=x)
    expected = [host(array).tobytes() for array in linear_cross_entropy_backward(dout, dx, dweight, 8.0)]
    actual = linear_cross_entropy_backward(dout, dx, dweight, 8.0, True)
    assert actual[0] is dx and actual[1] is dweight and [host(array).tobytes() for array in actual] == expected


@pytest.mark.cuda_sim
def test_no_array_of_all_logits(monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 16)
    sizes, allocate = [], sim.memory.allocate
    monkeypatch.setattr(sim.memory, "allocate", lambda nbytes: sizes.append(nbytes) or allocate(nbytes))
    x, weight, targets = device(head(np.random.default_rng(7), np.dtype(np.float32), N=256, K=8, V=257))
    sizes.clear()
    linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 1.0, True)
    assert max(sizes) == 16 * 257 * 4  # the logits of one chunk
    softmax_cross_entropy_forward(np.matmul(x, weight.T), targets, IGNORE, "mean")
    assert max(sizes) == 256 * 257 * 4  # the gauge sees them


@EVERY
def test_linear(dtype):
    rng = np.random.default_rng(8)
    for rows, K, C in [(1, 1, 1), (31, 5, 33), (127, 129, 16), (1025, 8, 131), (2, 64, 1031)]:
        x, weight, bias = normal(rng, dtype, rows, K), normal(rng, dtype, C, K), normal(rng, dtype, C)
        check(linear_forward, x, weight, bias, roundings=2)
        check(linear_forward, x, weight, None)
        check(linear_backward, normal(rng, dtype, rows, C), x, weight, bias)


@EVERY
def test_linear_of_a_batch_without_what_nobody_wants_and_of_views(dtype):
    rng = np.random.default_rng(9)
    x, weight, bias, dout = (normal(rng, dtype, *s) for s in ((2, 3, 7), (11, 7), (11,), (2, 3, 11)))
    for wanted in [(x, weight, bias), (None, weight, bias), (x, None, bias), (x, weight, None)]:
        check(linear_backward, dout, *wanted)
    turned = device(x.transpose(1, 0, 2).copy()).transpose(1, 0, 2)
    assert (
        host(linear_forward(turned, *device((weight, bias)))).tobytes()
        == host(linear_forward(*device((x, weight, bias)))).tobytes()
    )
    assert (
        error(wide(host(linear.sum_columns(misaligned(dout.reshape(6, 11))))), wide(dout).sum((0, 1)))
        <= LIMITS[dtype.name]
    )


def everything(dtype):
    """Bits of all outputs of this file's kernels for one set of inputs."""
    rng = np.random.default_rng(10)
    x, weight, targets = device(head(rng, dtype, N=67, K=32, V=1031))
    loss, dx, dweight = linear_cross_entropy_forward(x, weight, targets, IGNORE, "mean", 2.0, True)
    scaled = linear_cross_entropy_backward(loss, dx, dweight, 2.0)
    logits = linear_forward(x, weight, weight[:, 0])
    forward = softmax_cross_entropy_forward(logits, targets, IGNORE, "mean")
    dlogits = softmax_cross_entropy_backward(loss, logits, targets, *forward[1:], IGNORE, False)
    results = (
        loss,
        dx,
        dweight,
        *scaled,
        logits,
        *forward,
        dlogits,
        *linear_backward(dlogits, x, weight, weight[:, 0]),
    )
    return results


@pytest.mark.cuda_sim
@pytest.mark.parametrize("schedule", ["reversed", "random"])
@EVERY
def test_any_order_of_threads_gives_the_same_bits(dtype, schedule, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "CHUNK_ROWS", 16)
    before = [a.tobytes() for a in host(everything(dtype))]
    monkeypatch.setattr(simulated, "schedule", schedule)
    assert [a.tobytes() for a in host(everything(dtype))] == before


@pytest.mark.cuda_sim
def test_the_host_waits_for_nothing():
    reads = host_reads()
    everything(np.dtype(np.float32))
    assert host_reads() == reads


def test_logits_of_another_type_are_refused():
    with pytest.raises(TypeError, match="no kernels for logits of int32"):
        softmax_cross_entropy_forward(*device((np.zeros((2, 3), np.int32), np.zeros(2, np.int64))), IGNORE, "mean")
