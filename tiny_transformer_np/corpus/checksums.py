"""Files of token ids read once from end to end: their sha256 and their largest id, remembered in the user's cache.

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

_READ = 1 << 22  # bytes read at a time
_KEPT_EVERY = 1 << 30  # bytes read, until what was found is written to the cache
_SETTLED = 2_000_000_000  # nanoseconds since the last change


class Found(NamedTuple):
    """What reading a file found. largest: of its numbers, -1 if it has none."""

    sha256: str
    largest: int


def largest(numbers: Array, before: int) -> int:
    """The largest of `numbers` (n,) and `before`."""
    return max(before, int(numbers.max()))


def ascending(numbers: Array, before: int) -> int:
    """The last of `numbers` (n,). ValueError unless each is larger than the one before it."""
    if int(numbers[0]) <= before or (numbers[1:] <= numbers[:-1]).any():
        raise ValueError("its numbers do not ascend")
    return int(numbers[-1])


class Checksums:
    """What was found in the files of one folder, now or at an earlier start."""

    def __init__(self, folder: Path) -> None:
        place = cache.folder("checksums")
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
        self._entry = place / name if place else None
        self._known: dict[str, list[object]] = self._read()
        self._new = 0  # bytes of which the cache does not know

    def of(
        self,
        files: Sequence[MappedFile],
        progress: Progress | None = None,
        expect: Callable[[MappedFile, Found], None] = lambda file, found: None,
        fold: Callable[[Array, int], int] = largest,
    ) -> list[Found]:
        """What is found in each file; those that nothing is known of are read.

        expect(file, found): raises an error for a file that must not be used, before the next one is read. fold: what
        becomes of the numbers, a piece at a time. ConfigError for a file that cannot be read.
        """
        known = [self._recall(file) for file in files]
        total = sum(file.identity.size for file, found in zip(files, known, strict=True) if found is None)
        done, result = 0, []

        def advance(size: int) -> None:
            nonlocal done
            done += size
            if progress:
                progress(done, total)

        try:
            for file, found in zip(files, known, strict=True):
                found = found or _scan(file, fold, advance)
                expect(file, found)
                self.remember(file, found)
                result.append(found)
        finally:
            self.keep()
        return result

    def remember(self, file: MappedFile, found: Found) -> None:
        """Have this file read no more. `keep` writes it down."""
        if self._recall(file) or time.time_ns() - max(file.identity.mtime_ns, file.identity.ctime_ns) < _SETTLED:
            return
        self._known[file.path.name] = [list(file.identity), *found]
        self._new += file.identity.size
        if self._new > _KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        if self._entry and self._new:
            cache.write(self._entry, json.dumps(self._known).encode())
        self._new = 0

    def _recall(self, file: MappedFile) -> Found | None:
        match self._known.get(file.path.name):
            case [identity, str(sha256), int(number)] if identity == list(file.identity):
                return Found(sha256, number)
        return None

    def _read(self) -> dict[str, list[object]]:
        with suppress(ValueError):
            if self._entry and (text := cache.read(self._entry)):
                return parse_json(text.decode())
        return {}


def _scan(file: MappedFile, fold: Callable[[Array, int], int], advance: Callable[[int], None]) -> Found:
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
    except ValueError as error:
        raise ConfigError(f"{file.path} is damaged: {error}") from None
    return Found(sha256.hexdigest(), folded)
