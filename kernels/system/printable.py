"""Text for a person: of bounded length, and without characters that steer a terminal."""

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import TextIO

# C0 except tab and line feed, DEL and C1; marks and overrides of the writing direction; line and paragraph separators,
# which are no line breaks to a terminal but are to Python; surrogates, which no stream can encode.
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_WORD, _LONGEST_LINE = 300, 2000  # characters of a message; a path may have 4096, a forged value millions


def printable(text: str) -> str:
    """`text` with every control character but tab and line feed as a visible escape: `\\x1b`, `\\u202e`."""
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def shown(text: str, stream: TextIO) -> str:
    """`text` as it should be written to `stream`: printable on a terminal, unchanged into a file or a pipe."""
    return printable(text) if stream.isatty() else text


def one_line(message: object) -> str:
    """A message as one line of bounded length: printable, and long words cut in their middle."""
    return _cut(" ".join(_cut(word, _LONGEST_WORD) for word in printable(str(message)).split()), _LONGEST_LINE)


def _cut(text: str, length: int) -> str:
    """`text`, or both its ends around a note of how long it is."""
    if len(text) <= length:
        return text
    half = length // 2 - 15
    return f"{text[:half]}...({len(text):,} characters)...{text[-half:]}"


class _Brief(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 2, limit, limit, limit

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to print integers of more than 4,300 digits, at a cost that grows with their square
        return (
            super().repr_int(value, level) if value.bit_length() < 1024 else f"an integer of {value.bit_length()} bits"
        )


def brief(value: object, limit: int = 60) -> str:
    """repr(value) for an error message: strings and numbers cut to about `limit` characters, lists to a few items."""
    return printable(_Brief(limit).repr(value).replace("\n", " "))


def did_you_mean(word: str | None, words: Iterable[str], cutoff: float = 0.6) -> str:
    """ "; did you mean 'x'?" for the closest of `words`; nothing if there is no word, or it is one of them.

    cutoff: the least similarity, from 0 to 1.
    """
    words = list(words)
    close = [] if word is None or word in words else difflib.get_close_matches(word, words, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""
