"""The learning rate: never zero at first, the peak when warm-up ends, min_lr at the last step, resumed by one seek."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest

from tiny_transformer_np.training import get_cosine_schedule_with_warmup

PEAK, LOW = 1e-2, 1e-3


def schedule(warmup_steps, total_steps, min_lr=LOW):
    return get_cosine_schedule_with_warmup(SimpleNamespace(learning_rate=PEAK), warmup_steps, total_steps, min_lr)


def rates(warmup_steps, total_steps, n, min_lr=LOW):
    """The learning rates with which updates 1..n are made."""
    s, out = schedule(warmup_steps, total_steps, min_lr), []
    for _ in range(n):
        out.append(s.optimizer.learning_rate)
        s.step()
    return out


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (1, 2), (0, 50), (7, 8), (100, 1000)])
def test_shape(warmup, total):
    r = rates(warmup, total, total + 20)
    assert r[0] > 0
    assert max(r) <= PEAK
    for step in range(1, warmup + 1):
        assert r[step - 1] == pytest.approx(PEAK * step / warmup, rel=1e-12)
    fall = r[max(0, warmup - 1) : total]
    assert all(a > b for a, b in pairwise(fall))
    assert r[total - 1] == pytest.approx(LOW, rel=1e-12)
    assert all(rate == pytest.approx(LOW, rel=1e-12) for rate in r[total:])  # trained on past the end


def test_the_fall_is_half_a_cosine():
    r = rates(10, 110, 110)
    assert r[9] == PEAK
    for done in range(1, 101):
        expected = LOW + (PEAK - LOW) * math.cos(math.pi / 2 * done / 100) ** 2
        assert r[9 + done] == pytest.approx(expected, rel=1e-9)


def test_without_warmup_the_first_update_is_near_the_peak():
    assert rates(0, 1000, 1)[0] == pytest.approx(PEAK, rel=1e-4)


@pytest.mark.parametrize("warmup", [5, 6, 1000])
def test_a_warmup_as_long_as_the_run_or_longer_only_rises(warmup):
    r = rates(warmup, 5, 5)
    assert r == pytest.approx([PEAK * step / warmup for step in range(1, 6)], rel=1e-12)


def test_one_step_in_all():
    assert 0 < rates(0, 1, 1)[0] <= PEAK
    assert rates(1, 1, 1)[0] == PEAK


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 57, 100, 150])
def test_seek_is_the_same_as_so_many_steps(n):
    walked, sought = schedule(10, 100), schedule(10, 100)
    for _ in range(n):
        walked.step()
    sought.seek(n)
    assert sought.optimizer.learning_rate == walked.optimizer.learning_rate
    walked.step()
    sought.step()
    assert sought.optimizer.learning_rate == walked.optimizer.learning_rate


def test_min_lr_may_be_zero_or_the_peak():
    assert rates(2, 10, 10, min_lr=0.0)[-1] == pytest.approx(0.0, abs=1e-18)
    assert rates(2, 10, 10, min_lr=PEAK)[1:] == pytest.approx([PEAK] * 9, rel=1e-12)
