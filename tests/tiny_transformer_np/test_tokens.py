"""Tokens: the same ids whether they stand in one array or in many files, and nothing read that is not needed."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tiny_transformer_np.corpus import tokens as tokens_module
from tiny_transformer_np.corpus.tokens import InMemory, MappedFile, TokenRange, Tokens
from tiny_transformer_np.training.dataset import TextDataset

LENGTHS = (5, 0, 1, 40, 3, 0, 0, 17)  # of files, with empty ones first, last and side by side


def in_files(folder, rng, lengths=LENGTHS):
    """(the same ids in files, in one array (n,), the places behind which documents end)."""
    ids, ends, ranges = [], [], []
    for number, length in enumerate(lengths):
        ids.append(rng.integers(0, 60_000, length).astype("<u2"))
        borders = np.flatnonzero(rng.random(length) < 0.2).astype("<u8") + 1
        ends += [sum(lengths[:number]) + int(end) for end in borders]
        file, border_file = folder / f"{number}.bin", folder / f"{number}.borders"
        file.write_bytes(ids[-1].tobytes())
        border_file.write_bytes(borders.tobytes())
        mapped = MappedFile(file, "<u2", length, sha256=f"{number}")
        ranges.append(TokenRange(mapped, 0, length, MappedFile(border_file, "<u8", len(borders))))
    return Tokens.of_ranges(ranges, "<u2"), np.concatenate(ids), np.array(ends)


@pytest.fixture
def rng():
    return np.random.default_rng(24)


def test_windows_slices_and_parts_of_files_are_those_of_one_array(tmp_path, rng):
    tokens, ids, ends = in_files(tmp_path, rng)
    assert len(tokens) == len(ids) == 66 and tokens.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(tokens), ids)
    assert [tokens[i] for i in range(-66, 66)] == [ids[i] for i in range(-66, 66)]
    for start in range(67):
        for stop in range(start, 67):
            np.testing.assert_array_equal(tokens[start:stop], ids[start:stop])
            part = tokens.part(start, stop)
            np.testing.assert_array_equal(part[:], ids[start:stop])
            np.testing.assert_array_equal(part.ends[:], ends[(ends > start) & (ends <= stop)] - start)
    for length in (1, 2, 9, 66):
        starts = rng.permutation(67 - length)
        windows = tokens.windows(starts, length)
        assert windows.dtype == np.int64
        np.testing.assert_array_equal(windows, [ids[start : start + length] for start in starts])
    assert tokens.windows([], 3).shape == (0, 3)


def test_ends_can_be_read_at_any_places(tmp_path, rng):
    tokens, ids, ends = in_files(tmp_path, rng)
    for of in (tokens, Tokens(ids, ends)):
        places = rng.integers(0, len(ends), (4, 5))
        np.testing.assert_array_equal(of.ends[places], ends[places])
        assert of.ends[places[:0]].shape == (0, 5) and of.ends[-1] == ends[-1] and len(of.ends) == len(ends)
        for outside in (-1, len(ends)):
            with pytest.raises(IndexError):
                of.ends[np.array([0, outside])]
    np.testing.assert_array_equal(tokens[places], ids[places])


def test_a_part_of_a_part_has_the_ids_and_ends_of_one(tmp_path, rng):
    tokens, ids, ends = in_files(tmp_path, rng)
    for of in (tokens, Tokens(ids, ends)):
        part = of.part(4, 60).part(1, 50).part(0, 43)
        np.testing.assert_array_equal(part[:], ids[5:48])
        np.testing.assert_array_equal(part.ends[:], ends[(ends > 5) & (ends <= 48)] - 5)
        np.testing.assert_array_equal(part.windows([0, 30], 13), [ids[5:18], ids[35:48]])


def test_what_lies_outside_is_an_error(tmp_path, rng):
    tokens, ids, _ = in_files(tmp_path, rng)
    for of in (tokens, Tokens(ids)):
        for starts in ([-1], [60], [3, 64], [2**62]):
            with pytest.raises(IndexError):
                of.windows(starts, 7)
        for start, stop in ((-1, 3), (0, 67), (5, 4)):
            with pytest.raises(IndexError):
                of.part(start, stop)
        with pytest.raises(IndexError):
            of[66]
        with pytest.raises(ValueError, match="step"):
            of[::2]


def test_no_ids():
    for empty in (Tokens([]), Tokens.of_ranges([], "<u4"), Tokens(np.arange(3)).part(2, 2)):
        assert len(empty) == 0 and len(empty[:]) == 0 and len(empty.ends) == 0 and len(empty.ends[:]) == 0


def test_the_digest_of_an_array_is_the_one_in_checkpoints_made_before_there_were_files(rng):
    ids = rng.integers(0, 200, 3000)
    for dtype in (np.uint8, np.int64, np.uint32):
        assert Tokens(ids.astype(dtype)).digest() == TextDataset(ids, None, 8).digest()
        assert Tokens(ids.astype(dtype)).part(7, 2900).digest() == TextDataset(ids[7:2900], None, 8).digest()


def test_the_digest_of_files_depends_on_their_checksums_and_the_range_and_reads_nothing(tmp_path, rng):
    tokens, *_ = in_files(tmp_path, rng)
    assert tokens.digest() == tokens.part(0, 66).digest()
    digests = {tokens.part(start, stop).digest() for start in range(66) for stop in range(start + 1, 67)}
    assert len(digests) == 66 * 67 / 2
    assert all(each.source._array is None for each in tokens._parts)


def test_an_array_is_not_copied(rng):
    ids = rng.integers(0, 9, 100)
    source = Tokens(ids).part(3, 50)._parts[0].source
    assert isinstance(source, InMemory) and source.array() is ids


def test_threads_that_read_more_files_than_may_be_mapped_get_the_same_ids(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(tokens_module, "_MOST_MAPPED", 2)
    tokens, ids, ends = in_files(tmp_path, rng, lengths=[7] * 30)

    def read(seed):
        starts = np.random.default_rng(seed).integers(0, 190, 50)
        return starts, tokens.windows(starts, 20), tokens.ends[:]

    with ThreadPoolExecutor(4) as pool:
        for starts, windows, places in pool.map(read, range(40)):
            np.testing.assert_array_equal(windows, ids[starts[:, None] + np.arange(20)])
            np.testing.assert_array_equal(places, ends)


@pytest.mark.linux
def test_files_are_not_mapped_any_longer_than_their_tokens_are_in_use(tmp_path, rng):
    def mapped():
        gc.collect()
        return str(tmp_path) in Path("/proc/self/maps").read_text()

    tokens, *_ = in_files(tmp_path, rng)
    assert not mapped()
    tokens.windows([3], 20)
    assert mapped()
    del tokens
    assert not mapped()
