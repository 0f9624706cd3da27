"""Texts that are given directly: their ids are made once and found again, whatever happens to the cache."""

import errno
import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernels.system import cache as system_cache
from tiny_transformer_np import CharTokenizer
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import cache
from tiny_transformer_np.corpus.cache import cached_corpus, corpus_of_text
from tiny_transformer_np.corpus.plan import Request
from tiny_transformer_np.corpus.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    b"\xef\xbb\xbfHello\r\nworld \xc3\xa9",
    b"abc\rdef\n",
    b"\xef\xbb\xbf\xef\xbb\xbf\0",
    "日本\U0001f600\n".encode(),
]
# at the time of its first argument
START = """
import sys, time
from tiny_transformer_np.corpus.cache import cached_corpus
time.sleep(max(0, float(sys.argv[1]) - time.time()))
corpus = cached_corpus(sys.argv[2:]).corpus
print(corpus.digest, int(corpus.train[:].sum()))
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files of text, and a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(system_cache, "_said", set())
    paths = [tmp_path / f"{number}.txt" for number in range(len(TEXTS))]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_bytes(text)
    return paths


@pytest.fixture
def made(monkeypatch):
    """A list to which every corpus that is made, and not found, adds its folder."""
    folders, write = [], cache._Making.write
    monkeypatch.setattr(cache._Making, "write", lambda self, folder: folders.append(folder) or write(self, folder))
    return folders


def entries(tmp_path):
    return sorted((tmp_path / "cache" / "minigrad" / "corpora").iterdir())


def released(*paths, keep_marks=False):
    """The text of these files as versions up to 0.2.0 read it."""
    codec = "utf-8" if keep_marks else "utf-8-sig"
    return "\n".join(path.read_text(encoding=codec) for path in paths)


@pytest.mark.parametrize("keep_marks", [False, True])
@pytest.mark.parametrize("n_val", [0, 2])
def test_characters_have_the_ids_of_released_versions(files, keep_marks, n_val):
    data, val_data = files[n_val:], files[:n_val]
    found = cached_corpus(data, val_data, keep_marks=keep_marks).corpus
    text, val = (released(*paths, keep_marks=keep_marks) for paths in (data, val_data))
    tokenizer = CharTokenizer.from_text(text, val)
    assert found.tokenizer.to_json() == tokenizer.to_json()
    np.testing.assert_array_equal(found.train[:], tokenizer.encode(text))
    assert found.val is None if not n_val else (found.val[:] == tokenizer.encode(val)).all()


def test_a_corpus_is_made_once_and_follows_the_contents(files, made, tmp_path):
    first = cached_corpus(files)
    moved = tmp_path / "moved.txt"
    shutil.copy(files[0], moved)
    again = cached_corpus([moved, *files[1:]])
    assert len(made) == 1 and again.corpus.digest == first.corpus.digest and again.files == first.files
    cached_corpus(files, tokenizer="byte")
    cached_corpus(files, tokenizer=CharTokenizer.from_text(released(*files) + "more"))
    cached_corpus(files, keep_marks=True)
    cached_corpus(files[1:])
    moved.write_text("other")
    cached_corpus([moved, *files[1:]])
    assert len(made) == 6 == len(entries(tmp_path))
    assert not [path for path in made if path.exists()]


def test_word_pieces_are_learned_once_and_for_one_size(files, made, tmp_path):
    text = tmp_path / "long.txt"
    text.write_text("the quick brown fox jumps over the lazy dog.\n" * 50)
    first, other = (cached_corpus([text], tokenizer="bpe", vocab_size=size).corpus for size in (270, 280))
    assert (first.tokenizer.vocab_size, other.tokenizer.vocab_size) == (270, 280)
    again = cached_corpus([text], tokenizer="bpe", vocab_size=270).corpus
    assert len(made) == 2 and again.tokenizer.to_json() == first.tokenizer.to_json()
    assert again.tokenizer.decode(again.train[:]) == text.read_text() + "<|endoftext|>"


@pytest.mark.parametrize("damage", ["a byte", "an end", "an index", "a tokenizer", "a shard"])
def test_a_damaged_entry_is_made_anew(files, made, tmp_path, damage):
    whole = cached_corpus(files).corpus
    (entry,) = entries(tmp_path)
    ids = entry / "train-00000.bin"
    if damage == "a byte":
        ids.write_bytes(bytes([ids.read_bytes()[0] ^ 1]) + ids.read_bytes()[1:])
    elif damage == "an end":
        ids.write_bytes(ids.read_bytes()[:-1])
    elif damage == "an index":
        (entry / "index.json").write_text("{}")
    elif damage == "a tokenizer":
        (entry / "tokenizer.json").unlink()
    else:
        ids.unlink()
    again = cached_corpus(files).corpus
    assert len(made) == 2 and again.digest == whole.digest and (again.train[:] == ids_of(files)).all()
    assert cached_corpus(files).corpus.digest == whole.digest and len(made) == 2 and entries(tmp_path) == [entry]


def ids_of(files):
    text = released(*files)
    return CharTokenizer.from_text(text).encode(text)


def test_without_a_cache_the_corpus_lies_in_a_temporary_folder(files, made, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").touch()
    monkeypatch.setattr(system_cache, "_candidates", lambda: [(tmp_path / "file", "minigrad")])
    monkeypatch.setattr(system_cache, "temporary", lambda: tmp_path)
    for _ in range(2):
        assert (cached_corpus(files).corpus.train[:] == ids_of(files)).all()
    said = [line for line in capfd.readouterr().err.splitlines() if "texts are tokenized again" in line]
    assert len(said) == 1 and "Not a directory" in said[0] and len(made) == 1


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS"])
def test_a_full_cache_is_no_reason_to_fail(files, made, tmp_path, monkeypatch, capfd, error):
    number, write = getattr(errno, error), cache.write_shard

    def full(folder, *args):
        if "corpora" in str(folder):
            raise OSError(number, os.strerror(number))
        return write(folder, *args)

    monkeypatch.setattr(cache, "write_shard", full)
    monkeypatch.setattr(system_cache, "temporary", lambda: tmp_path)
    assert (cached_corpus(files).corpus.train[:] == ids_of(files)).all()
    assert capfd.readouterr().err.count(f"{os.strerror(number)}; texts are tokenized again at the next start") == 1
    assert entries(tmp_path) == [] and len(made) == 2


def test_a_temporary_folder_goes_when_the_process_ends(files, tmp_path):
    (tmp_path / "tmp").mkdir()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": "/dev/null", "HOME": "/dev/null"}
    env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").chmod(0o777)  # where no cache is kept either: others may write there
    done = subprocess.run(
        [sys.executable, "-c", START, "0", *map(str, files)], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and int(done.stdout.split()[1]) == ids_of(files).sum(), done.stderr
    assert "texts are tokenized again" in done.stderr and not [*(tmp_path / "tmp").rglob("*.*")]


def test_data_that_cannot_be_used_leave_no_entry(files, tmp_path):
    files[1].write_bytes(b"abc" * 3000 + b"\xff")
    with pytest.raises(ConfigError, match=r"1.txt is not UTF-8"):
        cached_corpus(files)
    with pytest.raises(ConfigError, match=r"2.txt: character '\\ufeff' at position 0 is not among the 4 known ones"):
        cached_corpus(files[2:], tokenizer=CharTokenizer("abc\n"))
    assert entries(tmp_path) == []


def test_processes_that_start_at_once_get_the_same(files, tmp_path):
    words = [sys.executable, "-c", START, str(time.time() + 2), *map(str, files)]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1 and len(entries(tmp_path)) == 1 and not any(process.returncode for process in processes)


def age(path, days):
    os.utime(path, (time.time() - days * cache.DAY,) * 2)


def test_what_was_not_used_for_long_is_removed(files, tmp_path):
    for path in files[1:]:
        cached_corpus([path])
    place = entries(tmp_path)[0].parent
    old, new, half, fresh = place / "old", place / "new", place / "x.tmp", place / "y.tmp"
    for folder, days in (old, 31), (new, 29), (half, 1.1), (fresh, 0.9):
        shutil.copytree(entries(tmp_path)[0], folder)
        age(folder, days)
    cached_corpus(files)
    left = entries(tmp_path)
    assert old not in left and half not in left and new in left and fresh in left and len(left) == len(files) + 2


def test_what_was_longest_unused_is_removed_where_all_are_too_large(files, tmp_path, monkeypatch):
    cached_corpus(files[:1])
    (used,) = entries(tmp_path)
    size = sum(file.stat().st_size for file in used.iterdir())
    age(used, 5)  # the oldest, and this process uses it
    others = [used.with_name(f"other{number}") for number in range(3)]
    for number, folder in enumerate(others):
        shutil.copytree(used, folder)
        age(folder, 4 - number)
    monkeypatch.setattr(cache, "MOST_BYTES", int(2.5 * size))
    for name in "0", "Z", "z":  # whatever comes first
        (used.parent / name).touch()
    (others[2] / "gone").symlink_to("nothing")
    cache._prune(used.parent)
    assert [path for path in entries(tmp_path) if path.is_dir()] == sorted([used, others[2]])


class Counted:
    """A Progress that counts."""

    def __init__(self):
        self.parts = []

    def begin(self, what, total, done):
        self.parts.append([what, total, done])

    def advance(self, n):
        assert n >= 0
        self.parts[-1][2] += n

    def end(self):
        self.parts[-1].append("ended")


@pytest.mark.parametrize("through", ["the cache", "processes"])
def test_progress_ends_at_its_total_for_packed_files_too(files, tmp_path, through):
    packed, progress = tmp_path / "packed.txt.gz", Counted()
    packed.write_bytes(gzip.compress(b"to be or not to be\n" * 50_000))
    if through == "processes":
        prepare(Request((str(packed), *map(str, files)), (), "char"), tmp_path / "corpus", 1, progress)
    else:
        cached_corpus([packed, *files], progress=progress)
    total = packed.stat().st_size + sum(map(len, TEXTS))
    made = [part for part in progress.parts if part[0] != "checksums"]
    assert made == [["tokenizer", total, total, "ended"], ["tokens", total, total, "ended"]]


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_text_in_memory_has_the_ids_of_a_file(files, tmp_path, kind):
    text = "Grüße, 日本\n" * 30
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    of_file, of_text = cached_corpus([path], tokenizer=kind, vocab_size=270).corpus, corpus_of_text(text, kind, 270)
    assert of_file.tokenizer.to_json() == of_text.tokenizer.to_json()
    np.testing.assert_array_equal(of_file.train[:], of_text.train[:])
    assert list(of_file.train.ends[:]) == list(of_text.train.ends[:])
