"""Texts on their way to tokens: held as the bytes of their files, decoded in pieces, kept as ids of as few bytes as do.

As one `str` a text takes up to four bytes a character, and as int64 ids eight; a large text must not cost that.
"""

import codecs
import io
from pathlib import Path

import numpy as np

from tiny_transformer_np.config import ConfigError

PIECE = 1 << 18  # bytes decoded at a time


class Text:
    """UTF-8 files, one after another with a line break between them. Iterating gives it in pieces, as str.

    Line breaks of every kind are "\\n", as wherever Python reads a text. Raises ConfigError for a file that is missing,
    unreadable or empty, and while iterating for one that is not UTF-8.
    """

    def __init__(self, *paths):
        self._parts = [(path, _read(path)) for path in paths]

    @classmethod
    def of(cls, string):
        """A str, as it is."""
        text = cls()
        text._parts = [(None, string)]
        return text

    def __iter__(self):
        for number, (path, data) in enumerate(self._parts):
            if number:
                yield "\n"
            yield from [data] if isinstance(data, str) else _decoded(path, data)

    def max_length(self):
        """At least as many as it has characters."""
        return sum(len(data) + 1 for _, data in self._parts)


def encode_text(text, tokenizer):
    """A Text -> its token ids (n,), in the smallest unsigned integers that hold every id of the vocabulary."""
    ids, n = np.empty(text.max_length(), np.min_scalar_type(tokenizer.vocab_size - 1)), 0
    for piece in text:
        ids[n : n + len(piece)] = tokenizer.encode(piece, first=n)
        n += len(piece)
    ids.resize(n, refcheck=False)  # nothing else refers to it
    return ids


def _read(path):
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read data file {path}: {error.strerror}") from None
    if not data:
        raise ConfigError(f"data file {path} is empty; expected text")
    return data


def _decoded(path, data):
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    for start in range(0, len(data), PIECE):
        end = min(start + PIECE, len(data))
        try:
            yield decoder.decode(data[start:end], final=end == len(data))
        except UnicodeDecodeError as error:
            byte = end - len(error.object) + error.start  # error.object: this piece, and what waited of the last one
            raise ConfigError(f"data file {path} is not UTF-8 text (byte {byte}); convert it first") from None
