"""Odd files given as --data, with each tokenizer: trained on, or refused in one line, with nothing left in the cache.

What is said of damaged corpora and files of ids is in test_damaged_corpora.py and test_foreign_tokens.py.
"""

import codecs
import gzip
import json
import os
import re

import numpy as np
import pytest
from test_bad_paths import outcome
from test_documents import write

from kernels.system import cache as caches
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.cache import cached_corpus
from tiny_transformer_np.training import TextDataset

WORDS = "Some words, and more of them: na\u00efve \u65e5\u672c \U0001f600.\n" * 8
TRAIN = ("tiny_transformer_np.training", "--kernels", "reference", "--no-preflight")
MANY = "".join(map(chr, range(0x4E00, 0x4E00 + 20_992))) + "".join(map(chr, range(0x10000, 0x10000 + 40_000)))


def lines(*values):
    return "\n".join(json.dumps(value) for value in values)


#: what a file has, its name, the documents that are read from it
READ = {
    "byte order mark": ("a.txt", codecs.BOM_UTF8 + WORDS.encode(), [WORDS]),
    "byte order mark within": ("a.txt", f"{WORDS}\ufeff{WORDS}", [f"{WORDS}\ufeff{WORDS}"]),
    "CRLF": ("a.txt", WORDS.replace("\n", "\r\n"), [WORDS]),
    "CR": ("a.txt", WORDS.replace("\n", "\r"), [WORDS]),
    "NUL": ("a.txt", WORDS + "\0\0a\0", [WORDS + "\0\0a\0"]),
    "control characters": ("a.txt", WORDS + "\x1b[31m\x7f\x85\u2028\u202e", [WORDS + "\x1b[31m\x7f\x85\u2028\u202e"]),
    "no ending": ("README", WORDS, [WORDS]),
    "nothing but white space": ("a.txt", " \n\t" * 40, [" \n\t" * 40]),
    "one character": ("a.txt", "x" * 40, ["x" * 40]),
    "special token in text": ("a.txt", "<|endoftext|>" * 9, ["<|endoftext|>" * 9]),
    "unassigned characters": ("a.txt", "\uffff\ufffe\U0010ffff\u0378" * 9, ["\uffff\ufffe\U0010ffff\u0378" * 9]),
    "combining characters": ("a.txt", "e\u0301\u0327 \u0301" * 20, ["e\u0301\u0327 \u0301" * 20]),
    "60,000 distinct characters": ("a.txt", MANY, [MANY]),
    "one long line without spaces": ("a.txt", "xyz" * 200_000, ["xyz" * 200_000]),
    "empty documents": ("a.jsonl", lines({"text": ""}, {"text": WORDS}, {"text": None}, {"text": WORDS}), [WORDS] * 2),
    "blank lines": ("a.jsonl", "\n\n" + lines({"text": WORDS}) + "\n \n", [WORDS]),
    "escapes": ("a.jsonl", json.dumps({"text": WORDS * 2}, ensure_ascii=True), [WORDS * 2]),
    "huge integer": ("a.jsonl", f'{{"n": {"9" * 9999}, "text": {json.dumps(WORDS)}}}', [WORDS]),
    "gzip members": ("a.txt.gz", gzip.compress(WORDS.encode()) + gzip.compress(b"more"), [WORDS + "more"]),
}  # fmt: skip
#: what a file has, its name, what the line says
REFUSED = {
    "empty": ("a.txt", "", "is empty; expected text"),
    "a mark alone": ("a.txt", codecs.BOM_UTF8, "is empty; expected text"),
    "blank lines alone": ("a.jsonl", "\n\n", "no text"),
    "empty documents alone": ("a.jsonl", lines({"text": ""}), "no text"),
    "Latin-1": ("a.txt", "caf\xe9".encode("latin1"), r"\(byte 3\); .*iconv -f latin1 -t utf-8 .*a\.txt > .*a-utf8\."),
    "UTF-16": ("a.txt", WORDS.encode("utf-16"), r"is UTF-16, .*iconv -f UTF-16 -t utf-8"),
    "UTF-16 without a mark": ("a.txt", (WORDS + "a" * 999).encode("utf-16-le"), "is UTF-16LE, not UTF-8 text"),
    "lone surrogate": ("a.txt", b"abc\xed\xa0\x80", r"\(byte 3\); half of a surrogate pair"),
    "lone surrogate in JSON": ("a.jsonl", r'{"text": "\ud800"}', r"line 1: the text has \\ud800, half of a surrogate"),
    "cut off character": ("a.txt", WORDS.encode()[:-3], r"is not UTF-8 text \(byte \d+\)"),
    "broken gzip": ("a.txt.gz", gzip.compress(WORDS.encode())[:-9], "is cut off"),
    "no gzip": ("a.txt.gz", WORDS, "is not packed by gzip"),
    "PDF": ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "it is a PDF document"),
    "picture": ("a.png", b"\x89PNG\r\n\x1a\n\0\0", "it is a picture"),
    "archive": ("a.zip", b"PK\x03\x04\0\0", "it is a ZIP archive"),
    "numbers": ("a.dat", np.arange(999, dtype=np.float32).tobytes(), "is not text"),
    "broken JSON": ("a.jsonl", '{"text": "a"}\n{"text"', r"line 2: it is not JSON"),
    "JSON without the field": ("a.jsonl", '{"content": "a"}', "line 1: there is no field 'text', .*--field content"),
    "JSON of another type": ("a.jsonl", '{"text": 1}', "line 1: the field 'text' is a number"),
    "JSON list": ("a.jsonl", '[{"text": "a"}]', "line 1: it is a list; .*jq"),
    "nested JSON": ("a.jsonl", "[" * 99_999, "line 1: it is nested too deeply"),
}  # fmt: skip


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """A function that lists what is in the cache, which is empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = caches.folder("corpora", "")
    assert place is not None and place.is_relative_to(tmp_path)
    return lambda: os.listdir(place)


def documents(corpus):
    """The texts of a corpus; of characters, which have no borders, the one text."""
    starts = [0, *corpus.train.ends[:]][: len(corpus.train.ends[:])]
    end_of_text = corpus.tokenizer.end_of_text
    if end_of_text is None:
        return [corpus.tokenizer.decode(corpus.train[0 : len(corpus.train)])]
    found = [corpus.train[start:end] for start, end in zip(starts, corpus.train.ends[:], strict=True)]
    assert all(ids[-1] == end_of_text and end_of_text not in ids[:-1] for ids in found)
    return [corpus.tokenizer.decode(ids[:-1]) for ids in found]


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
@pytest.mark.parametrize("kind", READ)
def test_odd_texts_are_trained_on(kind, tokenizer, tmp_path, entries):
    name, content, expected = READ[kind]
    path = write(tmp_path / "data" / name, content)
    corpus = cached_corpus([path], tokenizer=tokenizer, vocab_size=300 if tokenizer == "bpe" else 0).corpus
    assert documents(corpus) == (["\n".join(expected)] if tokenizer == "char" else expected)
    inputs, targets = TextDataset(corpus.train, corpus.tokenizer, 1).batch(0, 2, seed=1)
    assert inputs.dtype == targets.dtype == np.int64 and inputs.max() < corpus.tokenizer.vocab_size
    assert len(entries()) == 1


@pytest.mark.parametrize("kind", REFUSED)
def test_odd_texts_are_refused_in_one_line_with_nothing_left_behind(kind, tmp_path, entries):
    name, content, expected = REFUSED[kind]
    path = write(tmp_path / "data" / name, content)
    for tokenizer in ("char", "bpe"):
        flags = ("--data", "{}", "--out-dir", "{out}", "--tokenizer", tokenizer)
        status, message = outcome((*TRAIN, *flags), path, tmp_path / "run")
        assert status == 2 and message.count("\n") == 1 and len(message) < 600, message
        assert re.search(expected, message)
    assert entries() == [] and sorted(os.listdir(tmp_path)) == ["cache", "data"] and os.listdir(path.parent) == [name]


def test_a_text_with_characters_that_a_tokenizer_has_not_is_refused(tmp_path, entries):
    path = write(tmp_path / "data" / "a.txt", "abcabd")
    tokenizer = tokenizers.train("char", ["abc"], 0)
    with pytest.raises(ConfigError, match=r"a\.txt.*'d'") as refused:
        cached_corpus([path], tokenizer=tokenizer)
    assert "\n" not in str(refused.value) and entries() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "tokenizer"),
    [("xyz", "bpe"), ("xyz", "char"), ("word ", "byte"), ("\u65e5\u672c", "byte"), (" ", "char"), ("\r\n", "char")],
)
def test_one_line_of_50_megabytes(word, tokenizer, tmp_path, entries):
    n = 50_000_000 // len(word.encode())
    path = write(tmp_path / "a.txt", word * n)
    corpus = cached_corpus([path], tokenizer=tokenizer, vocab_size=300 if tokenizer == "bpe" else 0).corpus
    assert corpus.tokenizer.decode(corpus.train[0:12])[:2] == (word.replace("\r", "") * 2)[:2]
    width, tokens = corpus.tokenizer.bytes_per_token(), corpus.train
    n_bytes = sum(width[tokens[start : start + 10**6]].sum() for start in range(0, len(tokens), 10**6))
    assert n_bytes == n * len(word.replace("\r", "").encode())
