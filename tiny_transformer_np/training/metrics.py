"""metrics.jsonl: one JSON object a line, appended as the run goes on; in memory a column of numbers for each key."""

import contextlib
import heapq
import json
import math
import os
from array import array
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from kernels.arrays import Array
from kernels.system.files import StrPath, open_regular, replacing

Row: TypeAlias = dict[str, Any]  # "kind", and the KEYS of that kind

KEYS = {
    "train": ("step", "loss", "perplexity", "lr", "grad_norm", "tokens_per_second", "elapsed_seconds"),
    "eval": ("step", "val_loss", "val_perplexity"),
}
OPTIONAL = {"train": (), "eval": ("val_bits_per_byte",)}  # NaN in a column where a row does not have it
_CHUNK = 1 << 20  # bytes of lines that are parsed at a time: the parsed objects take several times as much


def perplexity(loss: float) -> float:
    """exp(loss), limited so that it never overflows."""
    return math.exp(min(loss, 700.0))


class MetricsLog:
    """The rows of a run in memory and, given a path, on disk.

    On opening, rows of steps after `last_step` are dropped, and a last line that is incomplete. Any other line that is
    not a row stays in the file and is skipped; `unreadable` is their number. Rows that cannot be written, because the
    disk is full for instance, wait in memory and are written with the next.
    """

    def __init__(self, path: StrPath | None = None, last_step: int = 0) -> None:
        self.path = Path(path) if path else None
        self.unreadable = 0
        self._columns = {
            kind: {key: array("q" if key == "step" else "d") for key in (*keys, *OPTIONAL[kind])}
            for kind, keys in KEYS.items()
        }
        self._kept: list[list[int]] | None = None  # the byte ranges of the file that `_keep` leaves; None: all
        self._waiting = b""  # lines not yet written
        self._torn: int | None = None  # offset of a line that was written in part
        if self.path and os.path.lexists(self.path):
            self._read(self.path, last_step)
            with contextlib.suppress(OSError):  # tried again with the first row
                self.flush()

    def append(self, row: Row) -> None:
        """Add a row and write it, see `flush`."""
        line = _line(row)
        for key, column in self._columns[row["kind"]].items():
            column.append(row.get(key, math.nan) if key in OPTIONAL[row["kind"]] else row[key])
        if self.path:
            self._waiting += line
            self.flush()

    def flush(self) -> None:
        """Write the waiting lines. After an OSError they still wait, and no part of them is in the file."""
        if self.path and self._kept is not None:
            self._keep(self.path, self._kept)
            self._kept = None
        if self.path and self._waiting:
            self._write(self.path, self._waiting)
            self._waiting = b""

    def _write(self, path: Path, lines: bytes) -> None:
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if self._torn is not None and self._torn < end:
                end = file.truncate(self._torn)
            self._torn, left = None, memoryview(lines)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                if len(left) < len(lines):
                    self._torn = end
                    file.truncate(end)
                    self._torn = None
                raise

    def columns(self, kind: str) -> dict[str, Array]:
        """{key: array (N,)} of the N rows of a kind."""
        return {key: np.array(column) for key, column in self._columns[kind].items()}

    @property
    def rows(self) -> list[Row]:
        """All rows as dicts, by step. For many thousands of rows use `columns`."""
        kinds = (
            [
                {"kind": kind, **{key: x for key, x in zip(columns, values, strict=True) if x == x}}  # without NaN
                for values in zip(*columns.values(), strict=True)
            ]
            for kind, columns in self._columns.items()
        )
        return list(heapq.merge(*kinds, key=lambda row: row["step"]))

    @property
    def elapsed_seconds(self) -> float:
        """Training time up to the last row, over all sessions."""
        return (self._columns["train"]["elapsed_seconds"] or [0.0])[-1]

    # ------------------------------------------------------------------------------ reading a file

    def _read(self, path: Path, last_step: int) -> None:
        kept: list[list[int]] = []  # [start, end] of the bytes that stay in the file
        size, torn = 0, b""
        with open_regular(path, "rb") as file:
            while lines := file.readlines(_CHUNK):
                if not lines[-1].endswith(b"\n"):
                    torn = lines.pop()
                size = self._take(lines, last_step, kept, size)
        if torn and _is_row(torn):  # complete except for its line break
            self._take([torn], last_step, kept, size)
        if kept != [[0, size]] or torn or path.is_symlink():
            self._kept = kept
        if kept and kept[-1][1] > size:
            self._waiting = b"\n"

    def _take(self, lines: list[bytes], last_step: int, kept: list[list[int]], start: int) -> int:
        """Add the rows of these lines, which begin at offset `start`, and their byte ranges to `kept`. -> their end."""
        try:
            steps, columns = _parsed(lines) if lines else ([], {})
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            if len(lines) > 1:  # one of them is not a row: parse each alone
                half = len(lines) // 2
                return self._take(lines[half:], last_step, kept, self._take(lines[:half], last_step, kept, start))
            self.unreadable += 1
            steps, columns = [-1], {}
        for kind, own in columns.items():
            for key, values in own.items():
                self._columns[kind][key].frombytes(values[own["step"] <= last_step].tobytes())
        if steps and max(steps) <= last_step:
            lines, steps = [b"".join(lines)], [0]  # one range of bytes
        for line, step in zip(lines, steps, strict=True):
            end = start + len(line)
            if step <= last_step:
                if kept and kept[-1][1] == start:
                    kept[-1][1] = end
                else:
                    kept.append([start, end])
            start = end
        return start

    def _keep(self, path: Path, ranges: list[list[int]]) -> None:
        """Rewrite the file with these ranges of its bytes."""
        if len(ranges) < 2 and all(start == 0 for start, _ in ranges) and not path.is_symlink():
            os.truncate(path, ranges[0][1] if ranges else 0)  # needs no disk space
            return
        with open(path, "rb") as old, replacing(path) as partial, open(partial, "wb") as new:
            for start, end in ranges:
                old.seek(start)
                while start < end:
                    start += new.write(old.read(min(_CHUNK, end - start)))


def _is_row(line: bytes) -> bool:
    try:
        _parsed([line])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return False
    return True


def _parsed(lines: list[bytes]) -> tuple[list[int], dict[str, dict[str, Array]]]:
    """-> (steps, {kind: {key: array (N,)}}) of lines, one or more. Raises if a line is not a row."""
    text = b"".join(lines)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    objects = text.replace(b"}\n{", b"},\n{")
    if len(lines) > 1 and not (len(objects) - len(text) + 1 == text.count(b"{") == len(lines)):
        raise ValueError("a line is not one object without others inside")
    rows = json.loads(f"[{objects.decode()}]")
    columns = {}
    for kind, keys in KEYS.items():
        own = [row for row in rows if row["kind"] == kind]
        columns[kind] = {key: _column(key, [row[key] for row in own]) for key in keys}
        columns[kind] |= {key: _optional_column(key, own) for key in OPTIONAL[kind]}
    steps = [row["step"] for row in rows]
    if len(steps) != len(lines) or sum(len(own["step"]) for own in columns.values()) != len(lines):
        raise ValueError("a line is not one row, or of another kind")
    return steps, columns


def _column(key: str, values: list[Any]) -> Array:
    """An array of numbers that are finite; steps: whole ones from 0 on."""
    types = set(map(type, values))
    if not types <= ({int} if key == "step" else {int, float}):
        raise TypeError("no number")
    column = np.array(values, np.int64 if key == "step" else np.float64)
    if (key == "step" and (column < 0).any()) or not np.isfinite(column).all():
        raise ValueError("no finite number")
    return column


def _optional_column(key: str, rows: list[Row]) -> Array:
    """`_column` of rows of which some do not have this key: NaN there."""
    has = np.array([key in row for row in rows], bool)
    column = np.full(len(rows), math.nan)
    column[has] = _column(key, [row[key] for row in rows if key in row])
    return column


def _line(row: Row) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"
