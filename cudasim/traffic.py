"""What check mode counts for each line of a kernel: bytes, 32-byte sectors, waves of shared memory."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields

from cudasim.lines import Lines, relative_path

_COLUMNS = ("place", "space", "write", "accesses", "lanes", "bytes", "distinct", "sectors", "least_sectors", "waves",
            "least_waves")  # fmt: skip


class _Counter(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _COLUMNS]


@dataclass
class Row:
    """One line of the source, one memory space, one direction. An access is one instruction of one warp."""

    file: str
    line: int
    space: str  # "global" or "shared"
    access: str  # "read" or "write"
    accesses: int = 0
    lanes: int = 0
    bytes: int = 0  # asked for, by all lanes
    distinct: int = 0  # without bytes that several lanes of a warp ask for
    sectors: int = 0  # of 32 bytes of global memory, that are moved
    least_sectors: int = 0  # if the same bytes were contiguous
    waves: int = 0  # of shared memory; more than the least is a bank conflict
    least_waves: int = 0


def rows(library: ctypes.CDLL, lines: Lines) -> list[Row]:
    """Counters of a library in check mode, by file and line."""
    n = library.sim_counters(None, 0)
    counters = (_Counter * max(n, 1))()
    library.sim_counters(counters, n)
    text = ctypes.create_string_buffer(1024)
    tokens = []
    for counter in counters[:n]:
        library.sim_place(ctypes.c_uint64(counter.place), text, len(text))
        tokens.append(text.value.decode())
    lines.text(" ".join(tokens))  # all of them looked up at once
    found: dict[tuple[str, int, str, str], Row] = {}
    for counter, token in zip(counters, tokens, strict=False):
        file, line = lines.place(token)
        key = file, line, ("global", "shared")[counter.space], ("read", "write")[counter.write]
        row = found.setdefault(key, Row(*key))
        for column in fields(Row)[4:]:
            setattr(row, column.name, getattr(row, column.name) + getattr(counter, column.name))
    return [found[key] for key in sorted(found)]


def table(rows: Sequence[Row]) -> str:
    """The counters as text, one line each."""
    if not rows:
        return "no memory traffic"
    lines = [("line", "", "", "bytes", "sectors", "least", "waves", "least")]
    for row in rows:
        is_global = row.space == "global"
        sectors = (row.sectors, row.least_sectors) if is_global else ("", "")
        waves = ("", "") if is_global else (row.waves, row.least_waves)
        lines.append((f"{relative_path(row.file)}:{row.line}", row.space, row.access, row.bytes, *sectors, *waves))
    widths = [max(len(str(line[i])) for line in lines) for i in range(8)]
    return "\n".join(
        "  ".join(
            str(x).ljust(w) if i < 3 else str(x).rjust(w) for i, (x, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
