"""The exponential functions of compiled float32 code, against those of float64 numbers."""

import numpy as np
import pytest

from kernels.cpu.compile import EXP_SCALE, exp, exp2_of_product, jit, scaled_exp


@jit
def fill(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


def compiled(x):
    x = np.asarray(x, np.float32)
    out = np.empty_like(x)
    fill(x, out)
    return out


@pytest.mark.parametrize("sign", [1, -1])
def test_relative_error(sign):
    """At every 501st float32 number from 2**-30 to the limits, beyond which numbers do not have all their bits."""
    bits = np.arange(*np.array([2.0**-30, 87.3], np.float32).view(np.int32), 501, dtype=np.int32)
    x = sign * bits.view(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(compiled(x) / exact - 1).max() < 1e-7


def test_special_values():
    np.testing.assert_array_equal(compiled([0.0, -0.0, np.inf, -np.inf, np.nan]), np.float32([1, 1, np.inf, 0, np.nan]))
    assert np.isnan(compiled([-np.nan])).all()


def test_beyond_the_limits():
    near, far = np.linspace(88.38, 89, 1000), np.geomspace(89, 3e38, 1000)
    assert np.isinf(compiled([*near, *far])).all()
    assert (compiled([*np.linspace(-89, -87.7, 1000), *(-far)]) == 0).all()
    assert np.isfinite(compiled(np.linspace(87, 88.37, 1000))).all()
    small = np.linspace(-87.68, -87.3, 1000, dtype=np.float32)  # subnormal results, multiples of 1.4e-45
    assert np.abs(compiled(small) - np.exp(small.astype(np.float64))).max() < 3e-45


@jit
def fill_scaled(x, out):
    for i in range(x.size):
        out[i] = scaled_exp(x[i])


def test_the_scaled_exponential_has_all_digits_where_the_exponential_itself_is_subnormal():
    x = np.concatenate([np.linspace(-103.9, 0, 100_000), [-104.7, -1e4, -np.inf, np.nan]]).astype(np.float32)
    out = np.empty_like(x)
    fill_scaled(x, out)
    assert np.abs(out[:-4] / (EXP_SCALE * np.exp(x[:-4].astype(np.float64))) - 1).max() < 1e-7
    np.testing.assert_array_equal(out[-4:], np.float32([0, 0, 0, np.nan]))


@jit(reorder=False)
def fill_powers_of_2(x, y, out):
    for i in range(x.size):
        out[i] = exp2_of_product(x[i], y[i])


def powers_of_2(x, y):
    x, y = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    out = np.empty_like(x)
    fill_powers_of_2(x.copy(), y.copy(), out)
    return out


def test_relative_error_of_a_power_of_2_whose_exponent_is_a_product():
    """The product is not rounded first: of a number near 100 that would take away 5 bits."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-12, 12, 100_000).astype(np.float32), rng.uniform(0, 10.4, 100_000).astype(np.float32)
    exact = np.exp2(x.astype(np.float64) * y)
    normal = exact >= np.finfo(np.float32).smallest_normal
    assert np.abs(powers_of_2(x, y) / exact - 1)[normal].max() < 1e-7


def test_special_powers_of_2():
    np.testing.assert_array_equal(powers_of_2([0, 1, -2, 3, -126, -127], 1), np.float32([1, 2, 0.25, 8, 2.0**-126, 0]))
    assert np.isnan(powers_of_2([np.nan, -np.nan], 2)).all()
