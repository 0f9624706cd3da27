"""Corpora and files of ids from elsewhere, at random: each is read, or refused in one line; see test_fuzz.py.

What is accepted can be read from end to end, and has no id that its tokenizer does not have.
`MINIGRAD_FUZZ_CASES=10000` tries as many as that.
"""

import hashlib
import json
import os
from collections import Counter

import fuzzed_files
import numpy as np
import pytest
from fuzzed_files import pick
from test_fuzz import CLEAR_REFS, MEGABYTES, SECONDS, limited, peak_megabytes

from kernels.system.printable import printable
from tiny_transformer_np import ConfigError, tokenizers
from tiny_transformer_np.corpus import shards
from tiny_transformer_np.corpus.foreign import open_foreign
from tiny_transformer_np.corpus.shards import EncodedPiece, open_corpus, write_index, write_shard
from tiny_transformer_np.tokenizers import ByteTokenizer, CharTokenizer, IdTokenizer

SEED = 24
PIECES = [
    b"NaN", b"1e999", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000, b'"tokens":1,', b"\xff", b"\\u0000", b"\0", b"../",
    b"-", b"\xef\xbb\xbf", b"}",
]  # fmt: skip
NAMES = [
    "../train-00000.bin", "/etc/passwd", "train-00000.bin\0", "train-00001.bin", "val-00000.bin", "index.json", ".",
    "train-00000.borders", "train-\u0661\u0661\u0661\u0661\u0661.bin", "TRAIN-00000.bin", "train-000000000000.bin",
]  # fmt: skip
HEADS = [
    b"GGUF",
    b"PK\3\4",
    b"\x93NUMPY",
    b'{"a": ',
    b"\x1f\x8b\x08",
    b"\0" * 12,
    b"Text, and more of it. ",
    b"\xff" * 8,
]


class Corpus:
    """A sound corpus in memory, of which each case writes a damaged one."""

    def __init__(self, folder, tokenizer):
        rng = np.random.default_rng(SEED)
        entries = [
            write_shard(folder, name, [EncodedPiece(rng.integers(0, 50, 30), 60, True) for _ in range(4)], "uint16")
            for name in ("train-00000", "train-00001", "val-00000")
        ]
        write_index(folder, tokenizer, "uint16", entries[:2], entries[2:])
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.index = json.loads(self.files["index.json"])

    def write(self, rng, folder):
        """Write the corpus with one or two faults. -> what was done"""
        folder.mkdir(exist_ok=True)
        files, done = dict(self.files), []
        for _ in range(int(rng.integers(1, 3))):
            done.append(pick(rng, [self._index, self._index, self._text, self._file, self._tokenizer])(rng, files))
        for name in self.files.keys() - files.keys():
            (folder / name).unlink(missing_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return "; ".join(done)

    def _index(self, rng, files):
        try:
            index = json.loads(files["index.json"])
        except (ValueError, RecursionError):
            return "nothing"
        done = fuzzed_files.edit(rng, index)
        if rng.random() < 0.2:
            for split in ("train", "val"):
                entries = index.get("splits", {}) if isinstance(index.get("splits"), dict) else {}
                for entry in entries.get(split) or ():
                    if isinstance(entry, dict) and rng.random() < 0.3:
                        entry[pick(rng, ["file", "borders"])] = pick(rng, NAMES)
        if rng.random() < 0.2 and isinstance(index.get("splits"), dict):
            for entries in index["splits"].values():
                if isinstance(entries, list):
                    rng.shuffle(entries)
        index["sha256"] = shards._digest(index) if rng.random() < 0.9 else index.get("sha256")
        files["index.json"] = json.dumps(index).encode()
        return done

    def _text(self, rng, files):
        text, at, piece = files["index.json"], int(rng.integers(len(files["index.json"]))), pick(rng, PIECES)
        files["index.json"] = text[:at] + piece + text[at + int(rng.integers(9)) :]
        return f"{piece[:9]} in the index"

    def _file(self, rng, files):
        name = pick(rng, sorted(files.keys() - {"index.json", "tokenizer.json"}))
        content = bytearray(files[name])
        how = pick(rng, ["remove", "shorter", "longer", "flip", "flip", "flip", "numbers"])
        if how == "remove":
            del files[name]
            return f"remove {name}"
        if how == "shorter":
            content = content[: int(rng.integers(len(content)))]
        elif how == "longer":
            content += bytes(int(rng.integers(1, 9)))
        elif how == "flip":
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        elif name.endswith(".bin"):
            content = bytearray(rng.integers(0, 52, 120).astype("<u2").tobytes())
        else:
            content = bytearray(rng.integers(0, 130, 4).astype("<u8").tobytes())
        files[name] = bytes(content)
        self._repair(rng, files, name)
        return f"{how} {name}"

    def _tokenizer(self, rng, files):
        tokenizer = json.loads(self.files["tokenizer.json"])
        others = [ByteTokenizer(), IdTokenizer(50), IdTokenizer(49)]
        done = "tokenizer: " + fuzzed_files.edit(rng, tokenizer)
        if rng.random() < 0.4:
            tokenizer, done = pick(rng, others).to_json(), "another tokenizer"
        files["tokenizer.json"] = json.dumps(tokenizer).encode()
        self._repair(rng, files, "tokenizer.json")
        return done

    def _repair(self, rng, files, name):
        """Give the index the checksum of a changed file, most of the time, if it still has a place for it."""
        try:
            index = json.loads(files["index.json"])
            sha256 = hashlib.sha256(files[name]).hexdigest()
            if name == "tokenizer.json":
                index["tokenizer_sha256"] = sha256
            for entry in (entry for split in index["splits"].values() for entry in split):
                for file, key in (("file", "sha256"), ("borders", "borders_sha256")):
                    if entry[file] == name:
                        entry[key] = sha256
            if rng.random() < 0.8:
                index["sha256"] = shards._digest(index)
                files["index.json"] = json.dumps(index).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return


def forged_ids(rng, path):
    """Write a file of ids, of some layout, with some fault. -> what was done"""
    ids = rng.integers(0, pick(rng, [3, 300, 50257, 2**16, 2**20]), int(rng.integers(1, 400)))
    kind = pick(rng, ["raw", "gpt2", "llama3"])
    if kind == "raw":
        content = ids.astype(pick(rng, ["<u2", "<u2", "<u2", "<u4", "<i8", "<f4", ">u2"])).tobytes()
    else:
        header = np.zeros(256, "<i4")
        header[:3] = (20240520, 1, len(ids)) if kind == "gpt2" else (20240801, 7, len(ids))
        content = header.tobytes() + ids.astype("<u2" if kind == "gpt2" else "<u4").tobytes()
    content = bytearray(content)
    how = pick(rng, ["none", "header", "header", "flip", "cut", "longer", "head"])
    if how == "header":
        value = pick(rng, [-1, 0, 1, 2, 7, 2**31 - 1, -(2**31), len(ids) + 1, len(ids) - 1, 20240520, 20240801])
        at = 4 * int(rng.integers(3))
        content[at : at + 4] = int(value).to_bytes(4, "little", signed=True)
    if how == "flip":
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    if how == "cut":
        content = content[: int(rng.integers(len(content) + 1))]
    if how == "longer":
        content += rng.bytes(int(rng.integers(1, 2000)))
    if how == "head":
        content = bytearray(pick(rng, HEADS)) * int(rng.integers(1, 9)) + content
    path.write_bytes(content)
    return f"{kind}, {len(ids)} ids, {how}"


def read_through(corpus):
    """Read all of an accepted corpus."""
    for tokens in filter(None, (corpus.train, corpus.val)):
        ids, ends = tokens[:], tokens.ends[:]
        assert len(ids) == len(tokens) and len(ends) == len(tokens.ends)
        assert not len(ids) or 0 <= int(ids.min()) <= int(ids.max()) < corpus.tokenizer.vocab_size
        assert (np.diff(ends) > 0).all() and (not len(ends) or 1 <= ends[0] <= ends[-1] <= len(ids))
        if len(tokens) > 4:
            np.testing.assert_array_equal(tokens.windows([0, len(tokens) - 4], 4), [ids[:4], ids[-4:]])
        tokens.digest()


def attempt(kind, number, sound, folder):
    """Make a case and read it; return whether it was "accepted" or "refused"."""
    rng = np.random.default_rng([SEED, len(kind), number])
    if kind == "corpus":
        path = folder / "corpus"
        done = sound[number % 2].write(rng, path)
    else:
        path = folder / "data.bin"
        done = forged_ids(rng, path)
    before = sorted(folder.rglob("*"))
    try:
        with limited(SECONDS):
            read_through(open_corpus(path) if kind == "corpus" else open_foreign([path]))
    except ConfigError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and len(message) < 3000 and printable(message) == message, (kind, number)
        return "refused"
    except BaseException as error:
        error.add_note(f"fuzz case {kind} {number}: {done}")
        raise
    finally:
        assert sorted(folder.rglob("*")) == before
    return "accepted"


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 100), pytest.param(100, int(os.environ.get("MINIGRAD_FUZZ_CASES", 2000)), marks=pytest.mark.slow)],
)
def test_every_corpus_is_read_or_refused_in_one_line(first, last, tmp_path, capsys):
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")  # what other tests took is no peak
    bpe = tokenizers.train("bpe", ["It is so. Is it? It is!"], 262)
    of_characters = CharTokenizer("".join(map(chr, range(50))))
    sound = [Corpus(tmp_path / each.kind, each) for each in (bpe, of_characters)]
    counts, peak = Counter(), peak_megabytes()
    (tmp_path / "cases").mkdir()
    for kind in ("corpus", "ids"):
        for number in range(first, last):
            counts[kind, attempt(kind, number, sound, tmp_path / "cases")] += 1
    assert peak_megabytes() - peak < MEGABYTES
    with capsys.disabled():
        print("\nfuzz:", ", ".join(f"{kind} {n} {outcome}" for (kind, outcome), n in sorted(counts.items())), end=" ")
    for kind in ("corpus", "ids"):  # cases that nothing accepts, or nothing refuses, are no cases
        assert counts[kind, "accepted"] > 0 and counts[kind, "refused"] > 0, kind
