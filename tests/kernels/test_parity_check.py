"""The parity check can fail: each kernel here has one seeded bug, and the check must find it."""

import numpy as np
import pytest
from parity import arguments, assert_same_bits, check, relative_error

from kernels import backend

cpu, reference = backend("cpu"), backend("reference")


def seed(monkeypatch, name, bug):
    """Put a kernel with a bug in the place of the fast one; returns an ordinary call's arguments."""
    right = getattr(cpu, name)
    monkeypatch.setattr(cpu, name, lambda *args: bug(right, *args))
    return arguments(name, np.random.default_rng(1), np.float32)


def test_a_mask_lost_in_one_place(monkeypatch):
    def bug(right, q, k, v, *setting):
        out, logsumexp = right(q, k, v, *setting)
        full, _ = right(q[:, :, :65], k[:, :, :65], v[:, :, :65], setting[0], False, *setting[2:])
        out[1, 1, 63] = full[1, 1, 63]  # one query of one head sees one key too many
        return out, logsumexp

    args = seed(monkeypatch, "attention_forward", bug)
    with pytest.raises(AssertionError, match="attention_forward, output 0"):
        check("attention_forward", *args)


def test_one_element_off_by_a_thousandth(monkeypatch):
    def bug(right, *args):
        out = right(*args)
        out[149, 69] += 1e-3 * abs(out).max()
        return out

    args = seed(monkeypatch, "gelu_forward", bug)
    with pytest.raises(AssertionError, match="gelu_forward, output 0"):
        check("gelu_forward", *args)


def test_layernorm_without_its_eps(monkeypatch):
    x, weight, bias, eps = seed(monkeypatch, "layernorm_forward", lambda right, *args: right(*args[:3], 0.0))
    check("layernorm_forward", x, weight, bias, 0.0)
    with pytest.raises(AssertionError, match="layernorm_forward"):
        check("layernorm_forward", x, weight, bias, eps)


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        (lambda right, x, *a: right(x.astype(np.float64), *a), "is float64"),
        (lambda right, x, *a: right(x, *a)[:-1], "shape"),
        (lambda right, x, *a: right(x, *a) + np.where(np.arange(x.shape[1]) == 3, np.nan, 0).astype(x.dtype), "NaN"),
        (lambda right, x, *a: right(np.multiply(x, 2, out=x), *a), "bits differ"),
    ],
    ids=["dtype", "shape", "nan", "input modified"],
)
def test_what_is_wrong_besides_the_digits(monkeypatch, bug, message):
    args = seed(monkeypatch, "gelu_forward", bug)
    with pytest.raises(AssertionError, match=message):
        check("gelu_forward", *args)


def test_infinities_must_stand_where_they_are_expected():
    assert relative_error([1.0, np.inf, np.nan], [1.0, np.inf, np.nan]) == 0
    for wrong in ([1.0, -np.inf, np.nan], [1.0, np.inf, 0.0], [np.nan, np.inf, np.nan]):
        with pytest.raises(AssertionError):
            relative_error(wrong, [1.0, np.inf, np.nan])
    assert relative_error([0.0, 1e-3], [0.0, 0.0]) == 1e-3  # nothing to compare with: the plain difference


def test_bits_are_compared_and_not_values():
    assert_same_bits(([np.zeros(2)], None), ([np.zeros(2)], None))
    for wrong in (-np.zeros(2), np.zeros(2, np.float32), np.zeros((1, 2))):
        with pytest.raises(AssertionError):
            assert_same_bits([wrong], [np.zeros(2)])


@pytest.mark.parametrize("backend", [reference, cpu])
def test_the_oracle_agrees_with_a_number_worked_out_by_hand(backend):
    """Both backends wrong in the same way would pass every comparison of the two."""
    loss, logsumexp, divisor = backend.softmax_cross_entropy_forward(np.log([[1.0, 3.0]]), np.array([1]), -1, "mean")
    assert (round(float(loss), 12), round(float(logsumexp.sum()), 12), int(divisor)) == (
        round(np.log(4 / 3), 12),
        round(np.log(4), 12),
        1,
    )
    out, _, _ = backend.layernorm_forward(np.array([[1.0, 3.0]]), np.array([2.0, 2.0]), np.array([0.5, 0.5]), 0.0)
    np.testing.assert_allclose(out, [[-1.5, 2.5]], rtol=1e-14)
