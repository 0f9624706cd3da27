"""Files divided into units of work, each of which can be read by itself, in any process.

The division depends on the files alone, not on who reads: a unit becomes a shard of the corpus.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Self

from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.cuts import any_cut, first_cut
from tiny_transformer_np.corpus.json_lines import LONGEST_LINE, TOO_LONG
from tiny_transformer_np.corpus.sources import Source
from tiny_transformer_np.corpus.streams import open_data

UNIT = 1 << 24  # bytes of text of which a unit has about this many at most, where the file can be cut
_WINDOWS = (1 << 14, 1 << 20)  # bytes that are searched for a place to cut
_UNPACKED = 4  # bytes of text for a byte of a compressed file, about


@dataclass(frozen=True)
class Part:
    """A Source, or a piece of it: bytes start to end of a plain file, row groups start to end of a Parquet file.

    A compressed file is not divided, and end is None. size: its bytes on disk.
    """

    source: Source
    start: int
    end: int | None
    size: int

    @property
    def begins_document(self) -> bool:
        """Whether it begins with a document, rather than within one."""
        return self.start == 0 or self.source.format != "text"


@dataclass(frozen=True)
class Unit:
    """Parts of files that are read one after another."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes on disk that reading it takes."""
        return sum(part.size for part in self.parts)

    @property
    def begins_document(self) -> bool:
        """Whether it begins with a document, rather than within one that the unit before has the beginning of."""
        return self.parts[0].begins_document

    def __str__(self) -> str:
        more = len({part.source.path for part in self.parts}) - 1
        return self.parts[0].source.name + (f" and {more} more" if more else "")

    def to_json(self) -> dict[str, Any]:
        """As a dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        """The Unit of which `to_json` made this."""
        return cls(tuple(Part(**{**part, "source": Source(**part["source"])}) for part in obj["parts"]))


def units(sources: Iterable[Source]) -> list[Unit]:
    """All of these files in units of at most about UNIT bytes of text; small files share one.

    A large plain file is cut where the tokens stay those of the whole (`cuts`), or between lines if it is .jsonl; a
    Parquet file between row groups. ConfigError for a file that cannot be read.
    """
    found: list[Unit] = []
    collected: list[Part] = []
    filled = 0
    for source in sources:
        for part, text in _parts(source):
            if collected and filled + text > UNIT:
                found.append(Unit(tuple(collected)))
                collected, filled = [], 0
            collected.append(part)
            filled += text
    return [*found, Unit(tuple(collected))] if collected else found


def _parts(source: Source) -> Iterator[tuple[Part, int]]:
    """The parts of a file, each with its bytes of text, about."""
    if source.format == "parquet":
        from tiny_transformer_np.corpus.parquet import row_group_sizes

        yield from _row_groups(source, row_group_sizes(source))
    elif source.compression:
        yield Part(source, 0, None, source.size), _UNPACKED * source.size
    else:
        borders = _borders(source)
        for start, end in itertools.pairwise(borders):
            yield Part(source, start, end, end - start), end - start


def _row_groups(source: Source, sizes: Sequence[int]) -> Iterator[tuple[Part, int]]:
    """Parts of successive row groups; sizes: bytes of each, uncompressed."""
    start, text, total = 0, 0, max(sum(sizes), 1)
    for number, size in enumerate(sizes):
        if number > start and text + size > UNIT:
            yield Part(source, start, number, source.size * text // total), text
            start, text = number, 0
        text += size
    if sizes:
        yield Part(source, start, len(sizes), source.size * text // total), text


def _borders(source: Source) -> list[int]:
    """The positions at which a plain file is divided, its beginning and end among them."""
    n = -(-source.size // UNIT)
    if n < 2:
        return [0, source.size]
    find = _line_border if source.format == "jsonl" else _text_border
    with open_data(source.name, source.path) as file:
        inner = {find(file, source.size * i // n, source.name) for i in range(1, n)}
    return [0, *sorted(place for place in inner if 0 < place < source.size), source.size]


def _text_border(file: IO[bytes], position: int, name: str) -> int:
    """A place to cut a text at or after this position; the file's end, if no place comes before it."""
    position -= 4  # the first characters may be incomplete, but not the fifth byte's
    for length in _WINDOWS:
        file.seek(position)
        window = file.read(length)
        if cut := first_cut(window):
            return position + cut
        if len(window) < length:
            return position + len(window)
    return position + any_cut(window)


def _line_border(file: IO[bytes], position: int, name: str) -> int:
    """The beginning of the first line at or after this position. ConfigError for a line that is too long to be read."""
    file.seek(position - 1)
    end = position + LONGEST_LINE
    while data := file.read(_WINDOWS[1]):
        if (found := data.find(b"\n")) >= 0:
            return position + found
        position += len(data)
        if position > end:
            raise ConfigError(f"data file {name}: around its byte {position:,} {TOO_LONG}")
    return position
