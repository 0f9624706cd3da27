"""Odd data given to the commands: all of their text is trained on, or one line refuses them and nothing is left."""

import gzip
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.system import cache
from tiny_transformer_np.corpus.shards import open_corpus
from tiny_transformer_np.training import __main__ as training
from tiny_transformer_np.training import prepare, trainer

TEXT = "The quick brown fox jumps over the lazy dog.\nAnother line, with naïve words: 日本 😀.\n" * 10
DATA = TEXT.encode()
LATIN = "A naïve text in Latin-1. ".encode("latin1") * 30
LINES = [f"document {i}: {TEXT[i : i + 40]}" for i in range(30)]
FEW = "--max-steps 1 --no-preflight --config tiny --kernels reference --sample-tokens 0 --eval-tokens 100"


def jsonl(*texts, end="\n"):
    return end.join(json.dumps({"text": text}) for text in texts).encode() + end.encode()


def damaged(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


GZIP = gzip.compress(DATA, mtime=0)
MANY = "".join(map(chr, [*range(0x100, 0xD800), *range(0xE000, 0xE000 + 5128)]))  # 60,000 characters
# name of the file, its bytes -> the text that is trained on
TRAINED = {
    "byte order mark": ("a.txt", b"\xef\xbb\xbf" + DATA, TEXT),
    "two byte order marks": ("a.txt", b"\xef\xbb\xbf" * 2 + DATA, "\ufeff" + TEXT),
    "CRLF": ("a.txt", DATA.replace(b"\n", b"\r\n"), TEXT),
    "CR": ("a.txt", DATA.replace(b"\n", b"\r"), TEXT),
    "NUL": ("a.txt", DATA + b"\0" + DATA, TEXT + "\0" + TEXT),
    "control characters": ("a.txt", DATA + b"\x01\x02\x1b[31m\x7f\x0b\x0c", TEXT + "\x01\x02\x1b[31m\x7f\x0b\x0c"),
    "other line breaks": ("a.txt", (TEXT + "\x85\u2028\u2029\x1c").encode(), TEXT + "\x85\u2028\u2029\x1c"),
    "directions and joiners": ("a.txt", ("\u202e\u2066\u200d" + TEXT).encode(), "\u202e\u2066\u200d" + TEXT),
    "stacked accents": ("a.txt", ("e" + "\u0301" * 50).encode() * 20, ("e" + "\u0301" * 50) * 20),
    "non-characters": ("a.txt", ("\uffff\ufffe\U0010ffff" + TEXT).encode(), "\uffff\ufffe\U0010ffff" + TEXT),
    "a token spelled out": ("a.txt", (TEXT + "<|endoftext|>").encode(), TEXT + "<|endoftext|>"),
    "one character": ("a.txt", b"a" * 900, "a" * 900),
    "spaces only": ("a.txt", b" \n\t" * 300, " \n\t" * 300),
    "60,000 characters": ("a.txt", MANY.encode() * 2, MANY * 2),
    "no ending": ("README", DATA, TEXT),
    "an odd name": ("a 😀's b.txt", DATA, TEXT),
    "documents": ("a.jsonl", jsonl(*LINES), "\n".join(LINES)),
    "documents, CRLF": ("a.jsonl", jsonl(*LINES, end="\r\n"), "\n".join(LINES)),
    "documents, byte order mark": ("a.jsonl", b"\xef\xbb\xbf" + jsonl(*LINES), "\n".join(LINES)),
    "documents, blank lines": ("a.jsonl", jsonl(*LINES, end="\n\n \n"), "\n".join(LINES)),
    "documents, some empty": ("a.jsonl", jsonl("", *LINES[:9], "", "", *LINES[9:], ""), "\n".join(LINES)),
    "documents, surrogate pairs": ("a.jsonl", jsonl("😀😀", *LINES), "\n".join(["😀😀", *LINES])),
    "gzip of several members": ("a.txt.gz", GZIP * 2, TEXT * 2),
    "gzip, padded": ("a.txt.gz", GZIP + b"\0" * 99, TEXT),
}  # fmt: skip
# name of the file, its bytes -> what the line says
REFUSED = {
    "nothing": ("a.txt", b"", "is empty"),
    "a byte order mark alone": ("a.txt", b"\xef\xbb\xbf", "is empty"),
    "ten characters": ("a.txt", b"abcdefghij", "give at least"),
    "Latin-1": ("a.txt", LATIN, "iconv -f latin1 -t utf-8"),
    "Latin-1 behind UTF-8": ("a.txt", DATA + b"\xe9 " + DATA, "the text before it is UTF-8"),
    "half a character at the end": ("a.txt", DATA + b"\xe2\x82", "is not UTF-8 text"),
    "a lone surrogate": ("a.txt", DATA + b"\xed\xa0\x80" + DATA, "half of a surrogate pair"),
    "UTF-16": ("a.txt", TEXT.encode("utf-16"), "iconv -f UTF-16"),
    "UTF-16 without a mark": ("a.txt", TEXT.encode("utf-16-le"), "iconv -f UTF-16LE"),
    "UTF-32": ("a.txt", TEXT.encode("utf-32"), "iconv -f UTF-32"),
    "a picture": ("a.txt", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "a picture"),
    "a document of another program": ("a.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "it is a PDF document"),
    "an archive": ("a.zip", b"PK\x03\x04\0\0", "it is a ZIP archive"),
    "numbers": ("a.dat", np.arange(999, dtype=np.float32).tobytes(), "is not text"),
    "gzip without its ending": ("a.txt", GZIP, "packed by gzip"),
    "gzip in gzip": ("a.txt.gz", gzip.compress(GZIP), "packed by gzip"),
    "gzip cut off": ("a.txt.gz", GZIP[:-20], "is cut off"),
    "gzip with a flipped byte": ("a.txt.gz", damaged(GZIP, -6), "is damaged"),
    "gzip and junk": ("a.txt.gz", GZIP + b"junk", "is damaged"),
    "no gzip": ("a.txt.gz", DATA, "is not packed by gzip"),
    "empty gzip": ("a.txt.gz", gzip.compress(b""), "is empty"),
    "only empty documents": ("a.jsonl", jsonl("", "", ""), "no text"),
    "only null": ("a.jsonl", jsonl(None, None), "no text"),
    "only blank lines": ("a.jsonl", b"\n\n\n", "no text"),
    "a half of a pair in a document": ("a.jsonl", jsonl(*LINES, "a\ud800b"), "line 31: .*half of a surrogate pair"),
    "another field": ("a.jsonl", b'{"content": "abc"}\n', "--field content"),
    "a number": ("a.jsonl", b'{"text": 5}\n', "is a number"),
    "a list": ("a.jsonl", json.dumps([{"text": TEXT}]).encode(), "jq -c"),
    "text as JSON lines": ("a.jsonl", DATA, "line 1: it is not JSON"),
    "JSON lines cut off": ("a.jsonl", jsonl(*LINES)[:-5], "line 30: it is not JSON"),
    "nesting": ("a.jsonl", b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    "Latin-1 in a document": ("a.jsonl", jsonl(*LINES) + b'{"text": "\xe9"}', "line 31, byte 10 of it"),
    "odd bytes of ids": ("a.bin", np.arange(999, dtype="<u2").tobytes() + b"\1", "is no number of uint16 ids"),
    "text as ids": ("a.bin", DATA, "call it .txt"),
    "ids cut off": ("a.bin", np.array([20240520, 1, 999, *[0] * 253], "<i4").tobytes() + b"\1\0" * 998, "is cut off"),
}  # fmt: skip
#: of these, what training refuses and `prepare` takes
FOR_TRAINING = ["ten characters", "odd bytes of ids", "text as ids", "ids cut off"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder and a cache of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(trainer, "draw_metrics", lambda *_: None)  # which takes longer than all else


def call(capsys, monkeypatch, program, *args):
    """(status, stderr) of a command that is called in this process."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, args)])
    try:
        status = program.main()
    except SystemExit as error:
        status = error.code
    return status, capsys.readouterr().err


def corpora():
    """What the cache has of texts."""
    folder = Path("cache/minigrad/corpora")
    return list(folder.iterdir()) if folder.exists() else []


def write(name, content):
    (path := Path("in") / name).write_bytes(content)
    return path


@pytest.mark.parametrize("kind", TRAINED)
def test_odd_data_are_trained_on_with_no_text_missing(kind, capsys, monkeypatch):
    name, content, text = TRAINED[kind]
    args = ["--data", write(name, content), "--out-dir", "run", *FEW.split()]
    # a character model of so many characters takes long
    args += ["--tokenizer", "byte"] if len(set(text)) > 1000 else []
    status, stderr = call(capsys, monkeypatch, training, *args)
    assert status in (0, None), stderr
    (folder,) = corpora()
    corpus = open_corpus(folder)
    ids = corpus.train[0 : len(corpus.train)]
    if (end := corpus.tokenizer.end_of_text) is not None:
        assert ids[-1] == end
        ids = ids[:-1]
    assert corpus.tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", REFUSED)
def test_odd_data_are_refused_in_one_line_and_nothing_is_left(kind, capsys, monkeypatch):
    name, content, expected = REFUSED[kind]
    temporary = cache.temporary()
    before = set(os.listdir(temporary))
    args = ["--data", write(name, content), "--out-dir", "run", *FEW.split()]
    status, stderr = call(capsys, monkeypatch, training, *args)
    assert_refused(status, stderr, expected)
    assert not Path("run").exists() and not Path("runs").exists()
    assert set(os.listdir(temporary)) == before
    assert not corpora() or kind == "ten characters"  # which are a corpus, if a short one


def assert_refused(status, stderr, expected):
    assert status == 2 and stderr.count("\n") == 1 and re.search(expected, stderr), (status, stderr)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind not in FOR_TRAINING])
def test_preparing_odd_data_is_refused_and_no_folder_is_left(kind, capsys, monkeypatch):
    name, content, expected = REFUSED[kind]
    args = [write(name, content), "--tokenizer", "byte", "--processes", "1", "--out", "corpus"]
    status, stderr = call(capsys, monkeypatch, prepare, *args)
    assert_refused(status, stderr, expected)
    assert not Path("corpus").exists()
