"""Philox4x32-10 is the published generator, on both backends, and randomness depends on its arguments alone."""

import numpy as np
import pytest

from kernels.cpu.philox import philox4x32 as compiled_philox4x32
from kernels.philox import derive_key, keep_threshold, philox4x32, random_bits

# Random123's known-answer vectors (kat_vectors, "philox 4x32 10"): counter, key, result
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def compiled(counter, key, n=1, step=(0, 0)):
    """The words of n counters, (n, 4); each is `step` further in the first two words."""
    c0, c1, c2, c3, k0, k1, s0, s1 = (np.uint32(word) for word in (*counter, *key, *step))
    words = np.empty((4, n), np.uint32)
    compiled_philox4x32((c0, c1), (s0, s1), c2, c3, k0, k1, words)
    return words.T


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    words = philox4x32(*counter, *key)
    assert all(word.dtype == np.uint32 for word in words)
    assert tuple(map(int, words)) == expected
    assert tuple(compiled(counter, key)[0].tolist()) == expected


def test_the_compiled_generator_gives_the_same_bits():
    counters = np.random.default_rng(1).integers(0, 2**32, (4, 2000), dtype=np.uint32)
    counters[:, :3] = 0, 1, 2**32 - 1
    key = (0x9E3779B9, 0xFFFFFFFF)
    words = np.stack(philox4x32(*counters, *key), axis=-1)  # (2000, 4)
    np.testing.assert_array_equal(np.concatenate([compiled(counter, key) for counter in counters.T]), words)


def test_the_compiled_generator_counts_on_past_32_bits():
    found = compiled((2**32 - 2, 5, 7, 9), (1, 2), n=35, step=(1, 3))
    counter = (np.arange(35) + 2**32 - 2) % 2**32, 5 + 3 * np.arange(35)
    np.testing.assert_array_equal(found, np.stack(philox4x32(*counter, 7, 9, 1, 2), axis=-1))


def test_counter_words_broadcast():
    words = philox4x32(np.arange(3), np.arange(2)[:, None], 7, 0, 1, 2)
    assert words[0].shape == (2, 3)
    assert [int(w[1, 2]) for w in words] == [int(w) for w in philox4x32(2, 1, 7, 0, 1, 2)]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 5, 7, 8, 401])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 101])
def test_start_gives_a_slice_of_the_same_sequence(start, n):
    """So any rank can draw its own part of a batch."""
    np.testing.assert_array_equal(random_bits(n, 1, 2, 3, start), random_bits(600, 1, 2, 3)[start : start + n])


def test_word_i_is_lane_i_mod_4_of_counter_i_div_4_past_32_bits_too():
    seed, step, stream, start = 2**40 + 5, 2**33 + 7, 2**35 + 11, 4 * (2**32 - 1) + 2
    key = [int(word) for word in philox4x32(7, 2, 11, 8, 5, 256)][:2]  # the low and high half of each argument
    assert derive_key(seed, step, stream) == tuple(key)
    last, first = philox4x32(2**32 - 1, 0, 0, 0, *key), philox4x32(0, 1, 0, 0, *key)
    expected = [int(word) for word in (*last[2:], *first)]
    assert random_bits(6, seed, step, stream, start).tolist() == expected


def test_seed_step_and_stream_all_change_the_bits():
    settings = [(1, 2, 3), (2, 1, 3), (1, 3, 2), (3, 2, 1), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    settings += [(2**32, 0, 0), (0, 2**32, 0), (0, 0, 2**32), (2**63, 0, 0)]  # the high halves count
    drawn = {random_bits(64, *setting).tobytes() for setting in settings}
    assert len(drawn) == len(settings)
    assert random_bits(64, 1, 2, 3).tobytes() == random_bits(64, 1, 2, 3).tobytes()


def test_bits_are_even():
    words = random_bits(20_000, 1, 2, 3)
    share = [(words >> bit & 1).mean() for bit in range(32)]
    np.testing.assert_allclose(share, 0.5, atol=5 * 0.5 / np.sqrt(20_000))


def test_keep_threshold():
    assert keep_threshold(0.0) == 2**32  # above every word: nothing is dropped
    assert keep_threshold(0.5) == 2**31
    assert keep_threshold(0.25) == 3 * 2**30
    assert keep_threshold(1.0 - 2.0**-32) == 1  # one word in 2**32 is kept
    assert keep_threshold(2.0**-32) == 2**32 - 1
    for p in (1.0, 1.5, -1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"dropout probability is .*; expected 0 <= p < 1"):
            keep_threshold(p)
