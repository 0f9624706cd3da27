"""Odd texts become corpora with each tokenizer, document by document. What is refused is in tests/test_odd_data.py."""

import codecs
import gzip
import json
import os

import numpy as np
import pytest
from test_documents import write

from kernels.system import cache as caches
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.cache import cached_corpus
from tiny_transformer_np.training import TextDataset

WORDS = "Some words, and more of them: na\u00efve \u65e5\u672c \U0001f600.\n" * 8
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
