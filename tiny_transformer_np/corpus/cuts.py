"""Where a long text may be cut so that its tokens stay those of the whole.

GPT-2's pre-tokenizer divides a text into words before byte pairs are merged, and no word of it has whitespace behind
another character:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

So between whitespace and a character before it that is none, a word always ends, whatever follows; and its only look
ahead, (?!\\S), is behind whitespace, which the text before the cut does not end with. Here the whitespace is a space or
a line break, which every definition has, and the character before it none by Python's, which has more than others.
GPT-4's and Llama 3's pre-tokenizers put line breaks behind punctuation into its word, so a line break behind a letter
or a digit is taken, where there is one.
"""

import re
from collections.abc import Iterable, Iterator

SLICE = 1 << 19  # characters, or bytes, that are read at a time
LONGEST = 1 << 20  # characters without a place to cut; then the cut is between any two characters

_LAST = (re.compile(r"(?s).*(?:\S(?= )|[^\W_](?=\n))"), re.compile(r"(?s).*\S(?=\n)"))
# in bytes decoded with "surrogateescape": a surrogate may be the end of a character that is whitespace
_FIRST = (re.compile(r"[^\s\ud800-\udfff](?= )|(?=[^\ud800-\udfff])[^\W_](?=[\r\n])"),
          re.compile(r"[^\s\ud800-\udfff](?=[\r\n])"))  # fmt: skip


def last_cut(text: str) -> int:
    """The last position in `text`, whose line breaks are "\\n", at which it may be cut; 0 if there is none."""
    if ("\n" in text or " " in text) and not text.isspace():  # else the patterns take long to find nothing
        for pattern in _LAST:
            if found := pattern.match(text):
                return found.end()
    return 0


def first_cut(data: bytes) -> int:
    """The first position in these bytes of a UTF-8 text at which it may be cut; 0 if there is none.

    The bytes may begin and end within a character.
    """
    text = data.decode("utf-8", "surrogateescape")
    if not set(b" \r\n").intersection(data):
        return 0
    for pattern in _FIRST:
        if found := pattern.search(text):
            return len(text[: found.end()].encode("utf-8", "surrogateescape"))
    return 0


def any_cut(data: bytes) -> int:
    """The first position behind the fourth byte that is between two characters, not within "\\r\\n"; or the end."""
    for position in range(4, len(data)):
        if data[position] & 0xC0 != 0x80 and data[position - 1 : position + 1] != b"\r\n":
            return position
    return len(data)


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """A text in strings of any length up to SLICE -> the same in pieces that end where it may be cut, none empty.

    A piece has at most LONGEST + SLICE characters.
    """
    rest = ""
    for text in texts:
        cut = last_cut(rest) or (len(rest) if len(rest) >= LONGEST else 0)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
        rest += text
    if rest:
        yield rest
