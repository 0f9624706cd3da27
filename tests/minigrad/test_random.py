"""Randomness is a function of (seed, step, stream, index): shuffles permute, streams differ, and nothing is hidden."""

import numpy as np
import pytest

from minigrad import random

SIZES = (1, 2, 3, 4, 5, 7, 16, 17, 100, 1000)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed,epoch", [(0, 0), (0, 1), (1, 0), (2**40 + 3, 7), (-1, 5)])
def test_shuffled_is_a_permutation(n, seed, epoch):
    out = random.shuffled(np.arange(n), n, seed, epoch)
    assert out.dtype == np.int64
    np.testing.assert_array_equal(np.sort(out), np.arange(n))


def test_it_differs_by_epoch_and_by_all_bits_of_the_seed():
    keys = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2**32, 0), (2**33, 0)]
    orders = {key: tuple(random.shuffled(np.arange(100), 100, *key).tolist()) for key in keys}
    assert len(set(orders.values())) == len(keys)


def test_it_mixes():
    n = 1000
    order = random.shuffled(np.arange(n), n, 0, 0)
    assert (order == np.arange(n)).sum() < 10  # one fixed point is expected
    assert (np.diff(order) == 1).sum() < 10  # likewise one pair of neighbours that stay neighbours
    # each quarter of the positions is spread over all quarters: 62.5 expected in each cell, sigma 6.8
    cells = np.histogram2d(np.arange(n), order, bins=4)[0]
    assert (np.abs(cells - 62.5) < 35).all()


@pytest.mark.parametrize("n", SIZES)
def test_any_part_of_the_positions_lands_where_the_whole_puts_it(n):
    whole = random.shuffled(np.arange(n), n, 5, 2)
    part = np.random.default_rng(0).integers(0, n, 20)  # repeated, in any order
    np.testing.assert_array_equal(random.shuffled(part, n, 5, 2), whole[part])
    np.testing.assert_array_equal(random.shuffled(part.reshape(4, 5), np.int64(n), 5, 2), whole[part].reshape(4, 5))
    assert random.shuffled(np.array([], np.int64), n, 5, 2).shape == (0,)


def test_the_positions_handed_in_are_not_written_to():
    positions = np.arange(10, dtype=np.uint64)
    random.shuffled(positions, 10, 0, 0)
    np.testing.assert_array_equal(positions, np.arange(10))


@pytest.mark.parametrize("position", [3, 100, -1])
def test_a_position_outside_is_refused(position):
    with pytest.raises(ValueError, match=r"positions must lie in 0\.\.2"):
        random.shuffled(np.array([0, position]), 3, 0, 0)


def test_streams_count_up_and_seek_goes_back():
    random.seek(7, step=3)
    assert [random.next_stream() for _ in range(3)] == [(7, 3, 0), (7, 3, 1), (7, 3, 2)]
    random.seek(7, step=4)
    assert random.next_stream() == (7, 4, 0)
    random.seek(8)
    assert random.next_stream() == (8, 0, 0)


def test_micro_batches_of_a_step_never_share_a_stream():
    used = set()
    for micro_batch in range(3):
        random.seek(0, step=1, micro_batch=micro_batch)
        used |= {random.next_stream() for _ in range(1000)}
    assert len(used) == 3000


def test_draws_repeat_after_seek_and_differ_between_uses():
    def draws(*position):
        random.seek(*position)
        return [random.normal(size=(4,)), random.normal(size=(4,)), random.uniform(size=(4,))]

    first, again = draws(1, 2), draws(1, 2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    for other in (draws(2, 2), draws(1, 3), draws(1, 2, 1)):
        assert not np.array_equal(first[0], other[0])


def test_the_global_generator_of_numpy_plays_no_part():
    random.seek(0)
    first = random.uniform(size=(3,))
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    random.seek(0)
    np.testing.assert_array_equal(random.uniform(size=(3,)), first)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_distributions():
    random.seek(0)
    even, bell = random.uniform(-1.0, 3.0, (20_000,)), random.normal(scale=2.0, size=(20_000,))
    assert even.dtype == bell.dtype == np.float32
    assert -1.0 <= even.min() < -0.99
    assert 2.99 < even.max() <= 3.0
    assert (even.mean(), even.std()) == (pytest.approx(1.0, abs=0.04), pytest.approx(4 / np.sqrt(12), rel=0.02))
    assert (bell.mean(), bell.std()) == (pytest.approx(0.0, abs=0.06), pytest.approx(2.0, rel=0.02))


def test_after_the_same_seed_come_the_same_numbers():
    drawn = {}
    for seed in (0, 1, -1, 2**64 - 1, np.int64(1), 1):
        random.manual_seed(seed)
        again = random.normal(size=(3,)).tobytes(), random.uniform(size=(2,)).tobytes()
        assert again[0] != random.normal(size=(3,)).tobytes()
        assert drawn.setdefault(int(seed) & (2**64 - 1), again) == again
    assert len(set(drawn.values())) == 3
    for seed in (1.5, "1", None, True):
        with pytest.raises(TypeError, match=r"the seed is .*; expected an integer"):
            random.manual_seed(seed)
