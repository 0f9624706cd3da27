"""Text files -> documents, in pieces that fit in little memory.

    sources = find_sources(["books/", "more.jsonl.gz"])
    for unit in units(sources):       # each can be read by another process
        for piece in read(unit):      # Piece(text, ends_document, path)
            ...

A plain file is one document; so is each line of a .jsonl file and each row of a .parquet file, of which one field is
the text. Texts of plain files have their line breaks made "\\n" and no byte order mark; fields stay as they are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tiny_transformer_np.corpus.cuts import SLICE, pieces
from tiny_transformer_np.corpus.decoding import BOM, Decoder
from tiny_transformer_np.corpus.sources import Source, find_sources
from tiny_transformer_np.corpus.standard_input import save_standard_input
from tiny_transformer_np.corpus.streams import Stream
from tiny_transformer_np.corpus.work_units import Part, Unit, units

__all__ = ["Part", "Piece", "Source", "Unit", "find_sources", "read", "save_standard_input", "units"]


class Piece(NamedTuple):
    """Text of a document, never empty; ends_document: no more of it follows; path: the file's, as a person wrote it."""

    text: str
    ends_document: bool
    path: str


def read(unit: Unit, field: str = "text", skipped: Counter[str] | None = None) -> Iterator[Piece]:
    """The documents of a unit, in order, in pieces of at most 1.5 million characters, most of them of half a million.

    field: that has the text in .jsonl and .parquet files. Documents without a character are skipped; `skipped` counts
    them by why, "empty" or "null". A long document is cut where its tokens stay the same, see `cuts`. One line of a
    .jsonl file, one value of a .parquet file and a page of its compressed data are held whole in memory, of other files
    a few megabytes. ConfigError, in one line, for what cannot be read.
    """
    skipped = Counter() if skipped is None else skipped
    for part in unit.parts:
        source = part.source
        if source.format == "text":
            found = _document(_text(part), source.name, ends=part.end in (None, source.size))
            first = next(found, None)
            if first is None:
                skipped["empty"] += 1
            else:
                yield first
                yield from found
        else:
            for text in _fields(part, field):
                if not text:
                    skipped["null" if text is None else "empty"] += 1
                elif len(text) <= SLICE:
                    yield Piece(text, True, source.name)
                else:
                    yield from _document(_slices(text), source.name)


def _fields(part: Part, field: str) -> Iterator[str | None]:
    if part.source.format == "parquet":
        from tiny_transformer_np.corpus.parquet import read_parquet

        return read_parquet(part, field)
    from tiny_transformer_np.corpus.json_lines import read_json_lines

    return read_json_lines(part, field)


def _text(part: Part) -> Iterator[str]:
    """The text of a part of a plain file, as it is read."""
    source = part.source
    with Stream(source, part.start, part.end) as stream:
        data = stream.read(SLICE)
        mark = len(BOM) if part.start == 0 and data.startswith(BOM) and not source.keep_marks else 0
        decoder = Decoder(source.name, part.start + mark, source.compression)
        data = data[mark:]
        while data:
            following = stream.read(SLICE)
            yield decoder.decode(data, final=not following)
            data = following


def _slices(text: str) -> Iterable[str]:
    return (text[start : start + SLICE] for start in range(0, len(text), SLICE))


def _document(texts: Iterable[str], path: str, ends: bool = True) -> Iterator[Piece]:
    """Pieces of a document, or of a part that its end is not in."""
    last = None
    for text in pieces(texts):
        if last is not None:
            yield Piece(last, False, path)
        last = text
    if last is not None:
        yield Piece(last, ends, path)
