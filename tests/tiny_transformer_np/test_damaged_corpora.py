"""A corpus that is damaged, forged or not finished is refused in one line, and nothing is changed or left behind."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from kernels.system.printable import printable
from tiny_transformer_np import ConfigError
from tiny_transformer_np.corpus import checksums, shards
from tiny_transformer_np.corpus.shards import (
    EncodedPiece,
    is_corpus,
    open_corpus,
    prepare_command,
    write_index,
    write_shard,
)
from tiny_transformer_np.tokenizers import CharTokenizer, IdTokenizer

TOKENIZER = IdTokenizer(1000)
SHARD, BORDERS = "train-00001.bin", "train-00001.borders"


def make(folder):
    rng = np.random.default_rng(24)
    entries = [
        write_shard(folder, name, [EncodedPiece(rng.integers(0, 1000, 40), 90, True) for _ in range(5)], "uint16")
        for name in ("train-00000", "train-00001", "val-00000")
    ]
    write_index(folder, TOKENIZER, "uint16", entries[:2], entries[2:])
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def corpus(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "corpus")


def listing(folder):
    return {path: path.lstat() for path in sorted(folder.parent.rglob("*"))}


def refusal(folder):
    """The line with which a corpus is refused."""
    before = listing(folder)
    with pytest.raises(ConfigError) as error:
        open_corpus(folder)
    line = str(error.value)
    assert "\n" not in line and printable(line) == line and len(line) < 1000
    after = listing(folder)
    assert {path: found.st_mtime_ns for path, found in after.items()} == {
        path: found.st_mtime_ns for path, found in before.items()
    }
    return line


def forge(folder, change):
    """Change the index and give it the right checksum, as a forger would."""
    index = json.loads((folder / "index.json").read_text())
    index = change(index) or index
    index["sha256"] = shards._digest(index)
    (folder / "index.json").write_text(json.dumps(index))


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_sound_corpus_is_opened(corpus):
    """What the refusals below differ from."""
    forge(corpus, lambda index: None)
    assert len(open_corpus(corpus).train) == 400


# ------------------------------------------------------------------------------------------ the index

INDEXES = {
    "truncated": (lambda text: text[: len(text) // 2], "is damaged"),
    "empty": (lambda text: "", "is damaged"),
    "a list": (lambda text: "[]", "expected an object"),
    "flipped": (lambda text: text.replace('"tokens": 200', '"tokens": 201', 1), "its checksum differs"),
    "a key twice": (lambda text: text.replace("{", '{"format": "x", ', 1), "stands twice"),
    "nested": (lambda text: '{"a":' * 10_000 + "1" + "}" * 10_000, "is damaged"),
    "brackets": (lambda text: "[" * 10_000, "is damaged"),
    "not a number": (lambda text: text.replace("1000", "NaN", 1), "NaN is not JSON"),
    "many digits": (lambda text: text.replace("1000", "9" * 10_000, 1), "is damaged"),
    "another program's": (lambda text: "{}", "is not the index of a corpus"),
    "UTF-16": (lambda text: text.encode("utf-16"), "is damaged"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_a_damaged_index_is_refused(kind, corpus):
    damage, why = INDEXES[kind]
    path = corpus / "index.json"
    content = damage(path.read_text())
    replace(path, content if isinstance(content, bytes) else content.encode())
    assert why in refusal(corpus)


@pytest.mark.parametrize("name", ["index.json", "tokenizer.json"])
@pytest.mark.posix
def test_a_file_of_a_gigabyte_is_not_read_whole(name, corpus):
    with open(corpus / name, "r+b") as file:
        file.truncate(1 << 30)  # takes no room on disk
    assert f"{corpus / name} has more than 67,108,864 bytes" in refusal(corpus)


def of_shard(**values):
    def change(index):
        index["splits"]["train"][1].update(values)

    return change


def of_index(**values):
    return lambda index: index.update(values)


def lists_twice(split):
    return lambda index: index["splits"][split].append(index["splits"]["train"][0])


FORGERIES = {
    "version 2": (of_index(version=2), "has version 2; expected 1"),
    "version true": (of_index(version=True), "has version True"),
    "dtype": (of_index(dtype="int64"), "has the dtype 'int64'; expected uint16 or uint32"),
    "wider dtype": (of_index(dtype="uint32"), "has 400 bytes; expected 800"),
    "no ids": (of_index(vocab_size=0), "has vocab_size 0"),
    "too many ids": (of_index(vocab_size=2**40), "has vocab_size 1099511627776"),
    "fewer ids": (of_index(vocab_size=999), "has 1000 ids, but index.json says 999"),
    "ids as text": (of_index(vocab_size="1000"), "its vocab_size is '1000'"),
    "unknown key": (of_index(codec="zip"), "unknown 'codec'"),
    "no key": (lambda index: index.pop("dtype"), "has no dtype"),
    "no splits": (of_index(splits={}), "has the splits {}"),
    "split of a split": (of_index(splits={"train": {}, "val": []}), "expected lists"),
    "shard as text": (of_index(splits={"train": ["x"], "val": []}), "has the shard 'x'"),
    "parent folder": (of_shard(file="../train-00001.bin"), "names the files '../train-00001.bin'"),
    "absolute": (of_shard(file="/etc/passwd"), "names the files '/etc/passwd'"),
    "folder": (of_shard(file="a/train-00001.bin"), "names the files"),
    "null character": (of_shard(file="train-00001.bin\0"), "names the files"),
    "borders elsewhere": (of_shard(borders="../train-00001.borders"), "names the files"),
    "borders of another": (of_shard(borders="train-00000.borders"), "names the files"),
    "negative": (of_shard(tokens=-200), "has tokens -200"),
    "overflow": (of_shard(tokens=2**63), "has tokens 9223372036854775808"),
    "wraps around": (of_shard(tokens=2**63 - 1 + 0), "has 400 bytes; expected 18,446,744,073,709,551,614"),
    "tokens too many": (of_shard(tokens=201), "has 400 bytes; expected 402"),
    "tokens too few": (of_shard(tokens=199), "has 400 bytes; expected 398"),
    "true": (of_shard(documents=True), "its documents is True"),
    "fraction": (of_shard(tokens=200.0), "its tokens is 200.0"),
    "documents": (of_shard(documents=6), "has 40 bytes; expected 48"),
    "another sha256": (of_shard(sha256="0" * 64), "train-00001.bin is damaged: its checksum differs"),
    "sha256 of another length": (of_shard(sha256="0"), "train-00001.bin is damaged: its checksum differs"),
    "twice": (lists_twice("train"), "names a shard twice"),
    "to train and to validate": (lists_twice("val"), "names a shard twice"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_index_is_refused(kind, corpus):
    change, why = FORGERIES[kind]
    forge(corpus, lambda index: change(index) and None)
    assert why in refusal(corpus)


# ------------------------------------------------------------------------------------------ its files


@pytest.mark.parametrize("name", [SHARD, BORDERS])
def test_a_shard_that_is_not_what_was_written_is_refused(name, corpus):
    path = corpus / name
    content = path.read_bytes()
    for damaged, why in ((content[:-2], "bytes; expected"), (content + b"\0\0", "bytes; expected"), (b"", "0 bytes")):
        replace(path, damaged)
        line = refusal(corpus)
        assert why in line and f"{path} has" in line and "prepare it again" in line
    for at in (0, len(content) // 2, -1):
        replace(path, content)
        flip(path, at)
        line = refusal(corpus)
        assert str(path) in line and "damaged" in line
    path.unlink()
    assert f"cannot read {path}: No such file" in refusal(corpus)
    path.mkdir()
    assert str(path) in refusal(corpus)


@pytest.mark.parametrize("name", [SHARD, BORDERS])
@pytest.mark.posix
def test_a_link_out_of_the_folder_is_refused(name, corpus, tmp_path):
    path = corpus / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{path} is a symbolic link" in refusal(corpus)


@pytest.mark.posix
def test_a_pipe_in_place_of_an_empty_shard_is_not_waited_for(corpus):
    os.unlink(corpus / SHARD)
    os.mkfifo(corpus / SHARD)
    forge(corpus, of_shard(tokens=0, documents=0))
    (corpus / BORDERS).write_bytes(b"")
    line = refusal(corpus)
    assert "pipe" in line or "checksum" in line


def rewrite(corpus, name, numbers, dtype):
    """Other contents, with the right checksum in the index."""
    content = np.array(numbers, dtype).tobytes()
    (corpus / name).write_bytes(content)
    key = {".bin": "sha256", ".borders": "borders_sha256"}[name[name.index(".") :]]
    forge(corpus, of_shard(**{key: hashlib.sha256(content).hexdigest()}))


@pytest.mark.parametrize(
    ("borders", "why"),
    [([40, 80, 80, 120, 200], "do not ascend"), ([80, 40, 90, 120, 200], "do not ascend"),
     ([0, 40, 80, 120, 160], "do not ascend"), ([40, 80, 120, 160, 201], "ends at 201"),
     ([40, 80, 120, 160, 2**64 - 1], "ends at 18446744073709551615")],
)  # fmt: skip
def test_borders_that_are_none_are_refused(borders, why, corpus):
    rewrite(corpus, BORDERS, borders, "<u8")
    assert why in refusal(corpus)


def test_an_id_that_the_tokenizer_does_not_have_is_refused(corpus):
    rewrite(corpus, SHARD, [999] * 200, "<u2")
    open_corpus(corpus)
    rewrite(corpus, SHARD, [999] * 199 + [1000], "<u2")
    assert f"{corpus / SHARD} has the id 1000, but its tokenizer has 1000 ids" in refusal(corpus)


def test_the_tokenizer_of_another_corpus_is_refused(corpus):
    path = corpus / "tokenizer.json"
    for tokenizer in (IdTokenizer(1001), CharTokenizer("ab")):
        path.write_text(json.dumps(tokenizer.to_json()))
        assert "made with another tokenizer" in refusal(corpus)
    path.unlink()
    assert "has no tokenizer.json" in refusal(corpus)
    path.mkdir()
    assert "has no tokenizer.json" in refusal(corpus)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"kind": "ids"}', b'{"kind": "ids", "vocab_size": -1}', b"\xff"]
)
def test_a_forged_tokenizer_is_refused(content, corpus):
    (corpus / "tokenizer.json").write_bytes(content)
    forge(corpus, of_index(tokenizer_sha256=hashlib.sha256(content).hexdigest()))
    assert str(corpus / "tokenizer.json") in refusal(corpus)


# ------------------------------------------------------------------------------------------ not finished


def test_a_corpus_that_is_not_finished_names_the_command_that_goes_on(tmp_path):
    folder = tmp_path / "corpus"
    assert "is no folder" in refusal(folder)
    folder.mkdir()
    assert "has no index.json; expected a corpus" in refusal(folder) and not is_corpus(folder)
    (folder / "plan.json").write_text("{}")
    goes_on = f"the command that began it goes on: {prepare_command(folder)}"
    assert goes_on.endswith(f"training.prepare PATH... --out {folder}")
    assert goes_on in refusal(folder) and is_corpus(folder)
    (folder / "plan.json").unlink()
    write_shard(folder, "val-00000", [], "uint16")
    assert goes_on in refusal(folder) and is_corpus(folder)
    (folder / "book.txt").write_text("a text")
    assert "is no folder" in refusal(folder / "book.txt")


# ------------------------------------------------------------------------------------------ read once


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Checksums are kept in a cache of this test alone, also of files that have just been written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "_SETTLED", 0)


def bytes_read(folder):
    """How much opening a corpus reads for its checksums."""
    calls = []
    open_corpus(folder, lambda done, total: calls.append((done, total)))
    assert all(total == calls[-1][0] for _, total in calls)
    return calls[-1][0] if calls else 0


def test_a_second_start_does_not_read_the_corpus_again(corpus, cached):
    assert [bytes_read(corpus) for _ in range(3)] == [1200, 0, 0]
    os.utime(corpus / SHARD)
    assert [bytes_read(corpus) for _ in range(2)] == [400, 0]


def test_what_was_just_written_is_read_again(corpus, cached, monkeypatch):
    monkeypatch.undo()
    assert [bytes_read(corpus) for _ in range(2)] == [1200, 1200]


def test_a_byte_that_is_flipped_later_is_found_even_if_the_time_of_change_is_put_back(corpus, cached):
    open_corpus(corpus)
    path = corpus / SHARD
    found = path.stat()
    flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert f"{path} is damaged" in refusal(corpus)
    assert f"{path} is damaged" in refusal(corpus)  # that it is damaged is not taken for sound


def test_a_remembered_checksum_of_another_file_counts_for_nothing(corpus, cached, tmp_path):
    open_corpus(corpus)
    other = shutil.copytree(corpus, tmp_path / "other")
    rewrite(other, SHARD, [1] * 200, "<u2")
    os.replace(other / SHARD, corpus / SHARD)
    assert f"{corpus / SHARD} is damaged" in refusal(corpus)


def test_a_damaged_cache_only_means_that_files_are_read_again(corpus, cached, tmp_path):
    open_corpus(corpus)
    [entry] = (tmp_path / "cache" / "minigrad" / "checksums").iterdir()
    for content in (b"", b"x" * 200, entry.read_bytes()[:-1]):
        entry.write_bytes(content)
        assert bytes_read(corpus) == 1200


def test_a_folder_that_cannot_be_written_to_is_read(corpus):
    for path in (*corpus.iterdir(), corpus):
        path.chmod(0o555 if path == corpus else 0o444)
    try:
        assert len(open_corpus(corpus).val) == 200
    finally:
        corpus.chmod(0o755)
