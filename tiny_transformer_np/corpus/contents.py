"""What the beginning of a file says about it: what is no text is refused, and JSON given as plain text is noted."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.decoding import convert

if TYPE_CHECKING:
    from tiny_transformer_np.corpus.sources import Source

#: how files of these kinds begin, what they are, and what to do; only where there is a byte that text has not
_KINDS = (
    (b"%PDF-", "a PDF document; make text of it: pdftotext"),
    (b"PK\x03\x04", "a ZIP archive, as .docx, .epub and .xlsx are too; unpack it, or save it as text"),
    (b"\xd0\xcf\x11\xe0", "a document of an old Office; save it as text"),
    (b"{\\rtf", "an RTF document; save it as text"),
    (b"\x1f\x8b", "packed by gzip; unpack it, or give it a name that ends with .txt.gz or .jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it, or give it a name that ends with .txt.zst or .jsonl.zst"),
    (b"BZh", "packed by bzip2; unpack it: bunzip2"),
    (b"\xfd7zXZ", "packed by xz; unpack it: unxz"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"PAR1", "a Parquet file; give it a name that ends with .parquet"),
    (b"ARROW1", "an Arrow file; save it as .parquet"),
    (b"\xff\xff\xff\xff", "an Arrow stream; save it as .parquet"),
    (b"SQLite format 3", "an SQLite database; save its text as .jsonl"),
    (b"\x89HDF", "an HDF5 file; save its text as .jsonl"),
    (b"\x93NUMPY", "a NumPy array; save its text as .txt"),
    (b"\x80\x04", "a pickle, which is never loaded; save its text as .jsonl"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"RIFF", "a picture, sound or film"),
    (b"ID3", "sound"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
#: marks at the beginning, the longer ones first
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)

_JSON = re.compile(r'\s*(?P<list>\[\s*)?\{ ?"[^"\n]*" ?:')


def refuse_what_is_no_text(source: Source, head: bytes) -> None:
    """ConfigError if a file that begins with `head`, uncompressed, is in another encoding, an archive, a picture..."""
    if source.format == "parquet":
        if not head.startswith(b"PAR1"):
            raise ConfigError(f"data file {source.name} is not a Parquet file, although its name says so")
        return
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "") or _wide(head)
    if encoding:
        command = convert(source.name, f"-f {encoding}", source.compression)
        raise ConfigError(f"data file {source.name} is {encoding}, not UTF-8 text; convert it: {command}")
    if head[257:262] == b"ustar":
        raise ConfigError(f"data file {source.name} is a tar archive, not text; unpack it: tar -xf")
    if _is_utf8(head) and b"\0" not in head:
        return
    if kind := next((kind for magic, kind in _KINDS if head.startswith(magic)), None):
        raise ConfigError(f"data file {source.name} is not text: it is {kind}")
    if b"\0" in head and not _is_utf8(head):
        raise ConfigError(f"data file {source.name} is not text: it has null bytes, and is not UTF-8; expected text")


def _wide(head: bytes) -> str:
    """The encoding of a text without a mark in which most characters have bytes 0; empty if it is none."""
    n = len(head) // 4
    if n < 4 or b"\0" not in head:
        return ""
    zeros = [head[place : 4 * n : 4].count(0) / n for place in range(4)]
    patterns = {"UTF-32LE": "0111", "UTF-32BE": "1110", "UTF-16LE": "0101", "UTF-16BE": "1010"}
    for name, pattern in patterns.items():
        if all(zero > 0.7 if expected == "1" else zero < 0.1 for zero, expected in zip(zeros, pattern, strict=True)):
            return name
    return ""


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def has_json_lines(head: bytes) -> bool:
    """Whether a text that begins so has a JSON object in each line, it seems."""
    found = _JSON.match(head.decode("utf-8-sig", "ignore"))
    return found is not None and not found["list"]


def suspicion(head: bytes) -> str:
    """A note on a file that is read as text and begins so, if it has JSON that may be meant as documents; or empty."""
    found = _JSON.match(head.decode("utf-8-sig", "ignore"))
    if not found:
        return ""
    # a note and no error: it may be meant, and runs of earlier versions that did so go on
    return "is JSON, and is read as plain text with its braces and names; to train on one field of its " + (
        "objects, write one in each line: jq -c '.[]' IN > OUT.jsonl"
        if found["list"]
        else "lines, give it a name that ends with .jsonl"
    )
