"""Files of numbers read once from end to end: their sha256 and their largest number, remembered in the user's cache.

A start on 100 GB must not read them all again. What is remembered of a file counts only while nothing that the system
says of it has changed, its time of change included; a file changed less than two seconds ago is not remembered, since
clocks of some file systems tick that slowly.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from kernels.arrays import Array
from kernels.system import cache
from kernels.system.files import open_regular
from kernels.system.tensors import parse_json
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.tokens import Identity, MappedFile

Progress: TypeAlias = Callable[[int, int], None]  # bytes read so far, bytes to read
Fold: TypeAlias = Callable[[Array, int], int]  # numbers of a file, what became of those before them; -1 at first

_READ = 1 << 22  # bytes read at a time
_KEPT_EVERY = 1 << 30  # bytes read, until what was found is written to the cache
_SETTLED = 2_000_000_000  # nanoseconds since the last change
_WITHOUT = "checksums are computed again at the next start"


class Found(NamedTuple):
    """What reading a file found. largest: of its numbers, -1 if it has none."""

    sha256: str
    largest: int


def largest(numbers: Array, before: int) -> int:
    """The largest of `numbers` (n,) and `before`."""
    return max(before, int(numbers.max()))


def ascending(numbers: Array, before: int) -> int:
    """The last of `numbers` (n,). ValueError unless each is larger than the one before it, and than 0."""
    if int(numbers[0]) <= max(before, 0) or (numbers[1:] <= numbers[:-1]).any():
        raise ValueError("its numbers do not ascend")
    return int(numbers[-1])


def read_once(
    files: Sequence[MappedFile],
    expect: Callable[[MappedFile, Found], None] = lambda file, found: None,
    progress: Progress | None = None,
    fold: Fold = largest,
) -> list[Found]:
    """What is found in each file; those that the cache knows are not read.

    expect(file, found): raises an error for a file that must not be used, before the next one is read. fold: what
    becomes of the numbers of a file. ConfigError for a file that cannot be read.
    """
    folders = {parent: _Folder(parent) for parent in {file.path.parent for file in files}}
    known = [folders[file.path.parent].recall(file) for file in files]
    total = sum(file.identity.size for file, found in zip(files, known, strict=True) if found is None)
    done, result = 0, []

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, total)

    try:
        for file, found in zip(files, known, strict=True):
            if found is None:
                found = _scan(file, fold, advance)
                expect(file, found)
                folders[file.path.parent].remember(file, found)
            else:
                expect(file, found)
            result.append(found)
    finally:
        for folder in folders.values():
            folder.keep()
    return result


class _Folder:
    """What the cache knows of the files in one folder: {name: [what tells the file from a changed one, found]}."""

    def __init__(self, folder: Path) -> None:
        place = cache.folder("checksums", _WITHOUT)
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
        self._entry = place / name if place else None
        self._known: dict[str, object] = {}
        self._unkept = 0  # bytes of the files that the entry does not have yet
        with suppress(ValueError):
            if self._entry and (text := cache.read(self._entry)):
                self._known = parse_json(text.decode())

    def recall(self, file: MappedFile) -> Found | None:
        match self._known.get(file.path.name):
            case [marks, [str(sha256), int(number)]] if marks == _marks(file):
                return Found(sha256, number)
        return None

    def remember(self, file: MappedFile, found: Found) -> None:
        """Have this file read no more, if it has settled; `keep` writes it down, from time to time."""
        if time.time_ns() - max(file.identity.mtime_ns, file.identity.ctime_ns) < _SETTLED:
            return
        self._known[file.path.name] = [_marks(file), list(found)]
        self._unkept += file.identity.size
        if self._unkept > _KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        if self._entry and self._unkept:
            cache.write(self._entry, json.dumps(self._known, separators=(",", ":")).encode(), _WITHOUT)
        self._unkept = 0


def _marks(file: MappedFile) -> list[object]:
    return [*file.identity, file.dtype.name, file.offset]


def _scan(file: MappedFile, fold: Fold, advance: Callable[[int], None]) -> Found:
    """Read a file, with advance(bytes) after each piece. It is not mapped: to read behind its end is no error then."""
    sha256, folded, left, skipped = hashlib.sha256(), -1, file.identity.size, file.offset
    buffer = memoryview(bytearray(min(_READ, left)))
    try:
        with cast(BufferedReader, open_regular(file.path, "rb")) as opened:
            if Identity.of(os.fstat(opened.fileno())) != file.identity:
                raise ConfigError(f"{file.path} was changed or replaced while it was read; start again")
            while left:
                piece = buffer[: min(_READ, left)]
                if opened.readinto(piece) != len(piece):
                    raise ConfigError(f"{file.path} became shorter while it was read; make it again")
                sha256.update(piece)
                if numbers := piece[skipped:]:
                    folded = fold(np.frombuffer(numbers, file.dtype), folded)
                left, skipped = left - len(piece), 0
                advance(len(piece))
    except OSError as error:
        raise ConfigError(f"cannot read {file.path}: {error.strerror}") from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{file.path} is damaged: {error}") from None
    return Found(sha256.hexdigest(), folded)
