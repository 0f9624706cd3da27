"""Texts read and encoded with little memory: files as bytes, decoded in pieces, ids in the smallest integer type.

One `str` would take up to four bytes a character, int64 ids eight.
"""

import codecs
from collections.abc import Iterator
from typing import Self

import numpy as np

from kernels.arrays import Array
from kernels.system.files import StrPath, open_regular
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.decoding import Decoder
from tiny_transformer_np.tokenizers import Tokenizer

PIECE = 1 << 18  # bytes decoded at a time


class Text:
    """UTF-8 files, one after another with a line break between them. Iterating gives it in pieces, as str.

    Every kind of line break becomes "\\n", as in Python's text mode. A byte order mark at the beginning of a file is
    dropped, unless keep_marks: then it is the character U+FEFF, as up to version 0.1.0. Raises ConfigError for a file
    that is missing, unreadable, empty or not regular, and while iterating for one that is not UTF-8.
    """

    def __init__(self, *paths: StrPath, keep_marks: bool = False) -> None:
        self._parts: list[str | tuple[StrPath, bytes]] = [(path, _read(path)) for path in paths]
        self._keep_marks = keep_marks

    @classmethod
    def of(cls, string: str) -> Self:
        """A Text of one str."""
        text = cls()
        text._parts = [string]
        return text

    def __iter__(self) -> Iterator[str]:
        for number, part in enumerate(self._parts):
            if number:
                yield "\n"
            yield from [part] if isinstance(part, str) else _decoded(*part, self._keep_marks)

    def max_length(self) -> int:
        """An upper bound of the number of characters."""
        return sum(len(part if isinstance(part, str) else part[1]) + 1 for part in self._parts)


def encode_text(text: Text, tokenizer: Tokenizer) -> Array:
    """A Text -> its token ids (n,), in the smallest unsigned integers that hold every id of the vocabulary."""
    ids, n = np.empty(text.max_length(), np.min_scalar_type(tokenizer.vocab_size - 1)), 0
    for piece in text:
        ids[n : n + len(piece)] = tokenizer.encode(piece, first=n)
        n += len(piece)
    ids.resize(n, refcheck=False)  # no view of it exists
    return ids


def _read(path: StrPath) -> bytes:
    try:
        with open_regular(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read data file {path}: {error.strerror}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"data file {path} is UTF-16, not UTF-8 text; convert it: iconv -f UTF-16 -t UTF-8")
    if data in (b"", codecs.BOM_UTF8):
        raise ConfigError(f"data file {path} is empty; expected text")
    return data


def _decoded(path: StrPath, data: bytes, keep_marks: bool) -> Iterator[str]:
    first = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) and not keep_marks else 0
    decoder = Decoder(path, first)
    for start in range(first, len(data), PIECE):
        yield decoder.decode(data[start : start + PIECE], final=start + PIECE >= len(data))
