"""accurate_sum: the error of a long sum does not grow with the number of rows, whichever axis they lie along."""

import numpy as np
import pytest

import minigrad as mg
from kernels.arrays import accurate_sum

ROWS = 1_000_003
LAYOUTS = {
    "rows": lambda n: np.random.default_rng(0).random((n, 2), dtype=np.float32),
    "columns": lambda n: np.asfortranarray(np.random.default_rng(0).random((n, 2), dtype=np.float32)),
    "every-other": lambda n: np.random.default_rng(0).random((2 * n, 2), dtype=np.float32)[::2],
    "broadcast": lambda n: np.broadcast_to(np.float32(0.1), (n, 2)),
    "reversed": lambda n: np.random.default_rng(0).random((n, 2), dtype=np.float32)[::-1],
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_a_million_rows_sum_to_the_right_value(make):
    x = make(ROWS)
    exact = x.sum(axis=0, dtype=np.float64)
    assert np.abs(accurate_sum(x, 0) / exact - 1).max() < 4e-6
    assert np.abs(x.sum(axis=0) / exact - 1).max() > 8e-6 or make is LAYOUTS["columns"]  # the test can tell


AXES = [((300, 500, 3), (0, 1)), ((500, 3, 300), (0, 2)), ((400, 400, 2), None), ((3, 40_000), 1), ((40_000, 3), (-2,)),
        ((130, 2), 0), ((129, 1, 2), (0, 1))]  # fmt: skip


@pytest.mark.parametrize("shape,axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_axes_are_summed_as_by_numpy(shape, axis, keepdims, order):
    x = np.asarray(np.random.default_rng(1).random(shape), np.float32, order=order)
    expected = x.sum(axis=axis, keepdims=keepdims, dtype=np.float64)
    np.testing.assert_allclose(accurate_sum(x, axis, keepdims), expected, rtol=2e-6)
    assert accurate_sum(x, axis, keepdims).dtype == np.float32
    assert accurate_sum(x, axis, keepdims).shape == expected.shape


@pytest.mark.parametrize("n", [129, 191, 255, 256, 257, 383, 1000, 4095, 4097, 16_383, 16_385, 33_001, 70_000])
@pytest.mark.parametrize("columns", [1, 2, 40, 5000])
def test_every_row_is_counted_once_however_many_there_are(n, columns):
    """Whole numbers: float32 holds their sums exactly, in any order."""
    n = min(n, 3_000_000 // columns)
    x = np.random.default_rng(3).integers(-9, 10, (n, columns)).astype(np.float32)
    for array in (x, np.asfortranarray(x), x[::-1], np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(accurate_sum(array, 0), x.sum(axis=0, dtype=np.float64))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (200, 0)])
def test_no_elements_sum_to_zero(shape):
    for axis in (None, *range(len(shape))):
        expected = np.zeros(shape, np.float32).sum(axis=axis)
        np.testing.assert_array_equal(accurate_sum(np.zeros(shape, np.float32), axis), expected)


def test_up_to_128_elements_the_bits_are_numpys():
    x = np.random.default_rng(2).standard_normal((128, 5, 7)).astype(np.float32)
    for axis in (0, 1, 2, (1, 2)):
        np.testing.assert_array_equal(accurate_sum(x, axis), x.sum(axis=axis))


def test_float16_is_summed_in_float32():
    assert accurate_sum(np.full(3000, 1.0, np.float16), 0) == 3000  # in float16, 2048 + 1 is 2048


def ones(n):
    return mg.tensor(np.full((n, 2), 0.1, np.float32), requires_grad=True)


LONG_SUMS = {
    "sum": lambda x: x.sum(dim=0), "mean": lambda x: x.mean(dim=0) * ROWS, "cumsum": lambda x: x.cumsum(dim=0)[-1],
    "einsum": lambda x: mg.einsum("ij->j", x), "norm": lambda x: mg.norm(x, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("fn", LONG_SUMS.values(), ids=LONG_SUMS)
def test_reductions_of_a_million_rows_are_accurate(fn):
    np.testing.assert_allclose(fn(ones(ROWS)).data, 0.1 * ROWS, rtol=5e-6)


def test_the_variance_of_a_million_rows_is_accurate():
    x = np.random.default_rng(0).random((ROWS, 2), dtype=np.float32)
    np.testing.assert_allclose(mg.var(mg.tensor(x), axis=0).data, x.var(axis=0, dtype=np.float64), rtol=2e-6)


def test_the_softmax_of_a_million_rows_is_accurate():
    x = np.random.default_rng(0).standard_normal((ROWS, 2)).astype(np.float32)
    shifted = x.astype(np.float64) - np.log(np.exp(x.astype(np.float64)).sum(axis=0))
    np.testing.assert_allclose(mg.softmax(mg.tensor(x), dim=0).data, np.exp(shifted), rtol=5e-6)
    np.testing.assert_allclose(mg.log_softmax(mg.tensor(x), dim=0).data, shifted, rtol=1e-6)


BROADCASTS = {
    "add": lambda x, b: x + b, "mul": lambda x, b: x * b, "broadcast_to": lambda x, b: mg.broadcast_to(b, x.shape),
    "expand": lambda x, b: b.expand(ROWS, -1),
}  # fmt: skip


@pytest.mark.parametrize("fn", BROADCASTS.values(), ids=BROADCASTS)
def test_the_gradient_of_a_bias_over_a_million_rows_is_accurate(fn):
    bias = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    upstream = np.full((ROWS, 2), 0.1, np.float32)
    fn(mg.tensor(np.ones((ROWS, 2), np.float32)), bias).backward(upstream)
    np.testing.assert_allclose(bias.grad, 0.1 * ROWS, rtol=5e-6)
