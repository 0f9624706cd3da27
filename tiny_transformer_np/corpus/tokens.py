"""Token ids in order, in one array or in memory-mapped files: a corpus may be larger than memory.

A file is mapped when an id in it is first read. Its pages belong to the file, so the system takes them back whenever it
needs memory, and processes that were forked share them.
"""

import hashlib
import itertools
import json
import mmap
import os
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system.files import StrPath, open_regular
from tiny_transformer_np.config import ConfigError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_HASHED = 1 << 20  # ids that are hashed at a time


Range: TypeAlias = tuple["Source", int, int]  # numbers `start` to `stop` of a source


class Source(Protocol):
    """Where numbers come from: an array, or a file. length: how many there are."""

    length: int

    def array(self) -> Array: ...

    def require_whole(self) -> None: ...


class InMemory:
    """The source of Tokens that are one array, which is not copied."""

    def __init__(self, array: Array) -> None:
        self._array, self.length = array, len(array)

    def array(self) -> Array:
        return self._array

    def require_whole(self) -> None:
        """An array is always whole."""


class Identity(NamedTuple):
    """What tells a file from a changed one without reading it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Identity":
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class MappedFile:
    """`length` numbers of `dtype` that stand in a file behind `offset` bytes; sha256: of the file's bytes.

    The file is looked at here, and opened by the first `array`. ConfigError if it is missing, has not exactly the size
    that the numbers need, or is another file later on.
    """

    def __init__(self, path: StrPath, dtype: npt.DTypeLike, length: int, offset: int = 0, sha256: str = "") -> None:
        self.path, self.dtype, self.length, self.offset = Path(path), np.dtype(dtype), length, offset
        self.sha256 = sha256
        self._array: Array | None = None
        self._size = offset + length * self.dtype.itemsize
        try:
            self.identity = Identity.of(os.stat(path))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        if self.identity.size != self._size:
            raise ConfigError(f"{path} has {self.identity.size:,} bytes; expected {self._size:,}; it is damaged")

    def array(self) -> Array:
        """The numbers (length,), read-only. What is read of them is in memory, and no more."""
        array = self._array
        if array is None:  # two threads may both map it; either mapping serves
            array = self._array = self._map()
            _mapped.append(weakref.ref(self))
            while len(_mapped) > _MOST_MAPPED:
                if file := _mapped.popleft()():
                    file._array = None  # a thread that still reads it holds the array itself
        return array

    def require_whole(self) -> None:
        """ConfigError if the file has become shorter: to read behind its end would kill the process (SIGBUS)."""
        try:
            size = os.stat(self.path).st_size
        except OSError:
            return  # it has another name, or none, and what is mapped stays
        if size < self._size:
            raise ConfigError(f"{self.path} became shorter while it was in use; make it again, then resume")

    def _map(self) -> Array:
        if not self.length:
            return np.empty(0, self.dtype)
        try:
            with open_regular(self.path, "rb") as file:
                found = Identity.of(os.fstat(file.fileno()))
                # but for ctime_ns, which a chmod or another link to the file changes too
                if found._replace(ctime_ns=self.identity.ctime_ns) != self.identity:
                    raise ConfigError(f"{self.path} was changed or replaced while it was in use; start again")
                mapping = mmap.mmap(file.fileno(), self._size, access=mmap.ACCESS_READ, **_UNTRACKED)
        except OSError as error:
            raise ConfigError(f"cannot read {self.path}: {error.strerror}") from None
        return np.frombuffer(mapping, self.dtype, self.length, self.offset)


# Up to Python 3.12 every mapping keeps a file descriptor of its own. Then as many files are mapped at a time as leave
# half of the descriptors to the rest of the program; where there are more, the one mapped first is mapped again when it
# is next read. Linux allows 65,530 mappings to a process.
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) and os.name == "posix" else {}
_MOST_MAPPED = 30_000
if resource is not None and not _UNTRACKED:
    _MOST_MAPPED = min(_MOST_MAPPED, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
_mapped: deque[weakref.ref[MappedFile]] = deque()  # in the order in which they were mapped


class Joined:
    """Numbers that can only be read: those of ranges (source, start, stop), one behind another.

    added: for each range, what is added to its numbers. Nothing is read before it is needed.
    """

    def __init__(self, ranges: Sequence[Range], dtype: npt.DTypeLike, added: Sequence[int] = ()) -> None:
        self._ranges = ranges
        self._added = added or [0] * len(ranges)
        self._offsets = [0, *itertools.accumulate(stop - start for _, start, stop in ranges)]
        self._firsts = np.array(self._offsets[:-1], np.int64)  # of each range, the place of its first number
        self._length = self._offsets[-1]
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice | Array) -> Array: ...
    def __getitem__(self, index: int | slice | Array) -> int | Array:
        """An int -> int; a slice [a:b] -> a new array (b - a,) of this dtype; an integer array (...) -> one (...)."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"a slice with a step of {step}; only [a:b] can be read")
            out = np.empty(max(stop - start, 0), self.dtype)
            self._read(start, out)
            return out
        if isinstance(index, np.ndarray):
            return self._gather(index.reshape(-1)).reshape(index.shape)
        place = range(len(self))[index]
        return int(self[place : place + 1][0])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """All of it, in memory."""
        return np.asarray(self[:], dtype)

    def _range_of(self, places: npt.ArrayLike) -> Array:
        """The numbers of the ranges in which `places` lie."""
        return np.searchsorted(self._firsts, places, side="right") - 1

    def _in_range(self, number: int) -> Array:
        """The numbers of a range, without what is added to them."""
        source, start, stop = self._ranges[number]
        source.require_whole()
        return source.array()[start:stop]

    def _gather(self, places: Array) -> Array:
        """The numbers at `places` (n,), in any order -> (n,)."""
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"places from {places.min()} to {places.max()}, among {len(self)}")
        out, numbers = np.empty(len(places), self.dtype), self._range_of(places)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            out[here] = self._in_range(number)[places[here] - self._offsets[number]]
            out[here] += self._added[number]
        return out

    def _read(self, start: int, out: Array) -> None:
        """Fill `out` (n,) with the n numbers from `start` on."""
        number, done = int(self._range_of(start)), 0
        while done < len(out):
            here = out[done : self._offsets[number + 1] - start]
            first = start + done - self._offsets[number]
            here[:] = self._in_range(number)[first : first + len(here)]
            here += self._added[number]
            done, number = done + len(here), number + 1


class TokenRange(NamedTuple):
    """Ids `start` to `stop` of a source. ends: of the whole source, the ascending places behind which documents end."""

    source: Source
    start: int
    stop: int
    ends: Source | None = None


class Tokens(Joined):
    """Token ids (n,) that can only be read: of an integer array, which is not copied, or of files (`of_ranges`)."""

    def __init__(self, ids: npt.ArrayLike, ends: npt.ArrayLike = ()) -> None:
        """ends: the ascending places behind which documents end, from 1 to n."""
        array = np.asarray(ids)
        array = array if array.dtype.kind in "iu" else array.astype(np.int64)
        self._set([TokenRange(InMemory(array), 0, len(array), InMemory(np.asarray(ends, np.int64)))], array.dtype)

    @classmethod
    def of_ranges(cls, ranges: Sequence[TokenRange], dtype: npt.DTypeLike) -> "Tokens":
        """The ids of all ranges, one behind another. dtype: of all of them."""
        tokens = cls.__new__(cls)
        tokens._set(ranges, dtype)
        return tokens

    @classmethod
    def of_files(cls, files: Sequence[MappedFile], dtype: npt.DTypeLike) -> "Tokens":
        """The ids of whole files, whose documents are not told apart."""
        return cls.of_ranges([TokenRange(file, 0, file.length) for file in files], dtype)

    def _set(self, ranges: Sequence[TokenRange], dtype: npt.DTypeLike) -> None:
        self._parts = [each for each in ranges if each.stop > each.start]
        super().__init__([each[:3] for each in self._parts], dtype)
        self._digest = ""
        self._ends: Joined | None = None

    def windows(self, starts: npt.ArrayLike, length: int) -> Array:
        """The `length` ids from each of `starts` (n,) on -> int64 (n, length). IndexError if one reaches outside."""
        starts = np.asarray(starts, np.int64)
        if len(starts) and not 0 <= starts.min() <= starts.max() <= len(self) - length:
            raise IndexError(f"a window of {length} ids from {starts.min()} to {starts.max()} on, among {len(self)}")
        out = np.empty((len(starts), length), np.int64)
        order = np.argsort(starts, kind="stable")  # so that one range at a time is in use
        numbers, number = self._range_of(starts[order]).tolist(), -1
        for row, here, start in zip(order.tolist(), numbers, starts[order].tolist(), strict=True):
            if here != number:
                number, offset, array = here, self._offsets[here], self._in_range(here)
            ids = array[start - offset : start - offset + length]
            if len(ids) == length:
                out[row] = ids
            else:  # it reaches into the next range
                self._read(start, out[row])
        return out

    def part(self, start: int, stop: int) -> "Tokens":
        """The ids from `start` to before `stop`, of the same sources. IndexError unless 0 <= start <= stop <= n."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"the part from {start} to {stop} of {len(self)} ids")
        ranges = []
        for offset, (source, first, last, ends) in zip(self._offsets, self._parts, strict=False):
            here = TokenRange(source, max(first, first + start - offset), min(last, first + stop - offset), ends)
            if here.stop > here.start:
                ranges.append(here)
        return Tokens.of_ranges(ranges, self.dtype)

    def overlaps(self, other: "Tokens") -> bool:
        """Whether an id of the same array or file is in both."""
        return any(
            _same(a, b) and start < last and first < stop
            if not isinstance(a, InMemory) or not isinstance(b, InMemory)
            else np.shares_memory(a.array()[start:stop], b.array()[first:last])
            for (a, start, stop, _), (b, first, last, _) in itertools.product(self._parts, other._parts)
        )

    @property
    def ends(self) -> Joined:
        """The places behind which a document ends, int64, from 1 to n, ascending.

        Ids behind the last one belong to a document that goes on.
        """
        if self._ends is None:
            ranges, added = [], []
            for offset, (source, start, stop, ends) in zip(self._offsets, self._parts, strict=False):
                if ends is not None:
                    first = 0 if start == 0 else int(np.searchsorted(ends.array(), start, side="right"))
                    last = ends.length if stop == source.length else np.searchsorted(ends.array(), stop, side="right")
                    if last > first:
                        ranges.append((ends, first, int(last)))
                        added.append(offset - start)
            self._ends = Joined(ranges, np.int64, added)
        return self._ends

    def digest(self) -> str:
        """A sha256 that equal ids have in common, as far as that can be told without reading files; computed once.

        Of an array: of its ids as int64, little-endian. Of files: of their sha256 and of the ranges.
        """
        if not self._digest:
            sha256 = hashlib.sha256()
            for source, start, stop, _ in self._parts:
                if isinstance(source, MappedFile):
                    sha256.update(json.dumps([source.sha256, source.dtype.name, source.offset, start, stop]).encode())
                    continue
                for at in range(start, stop, _HASHED):
                    sha256.update(source.array()[at : min(at + _HASHED, stop)].astype("<i8").data)
            self._digest = sha256.hexdigest()
        return self._digest


def _same(a: Source, b: Source) -> bool:
    """Whether two sources are the same file."""
    if isinstance(a, MappedFile) and isinstance(b, MappedFile):
        return a.identity[:2] == b.identity[:2]
    return a is b
