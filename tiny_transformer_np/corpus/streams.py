"""The bytes of a data file, unpacked, a few at a time; its errors name the file."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import zlib
from typing import IO, TYPE_CHECKING, Any, Self

from kernels.system.files import StrPath, open_regular
from kernels.system.printable import brief
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np_package_check import interpreter

if TYPE_CHECKING:
    from tiny_transformer_np.corpus.sources import Source

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
#: how packed files begin
_MAGIC = {"gzip": re.compile(rb"\x1f\x8b"), "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")}
_ONCE = 1 << 18  # bytes that are asked of a decompressor


def require_pyarrow(name: str) -> None:
    """ConfigError with the command that installs pyarrow, if this file needs it and it is not there."""
    if not importlib.util.find_spec("pyarrow"):
        raise ConfigError(
            f"reading data file {name} needs pyarrow, of the extra data: {interpreter()} -m pip install pyarrow"
        )


def open_data(name: str, path: StrPath) -> IO[bytes]:
    """Open a file to read bytes. ConfigError if that is refused, or if it is no regular file."""
    try:
        return open_regular(path, "rb")
    except OSError as error:
        raise ConfigError(f"cannot read data file {name}: {error.strerror}") from None


class Stream:
    """The uncompressed bytes start to end (None: all that follow) of a Source; a context manager.

    ConfigError if the file is damaged, cannot be read, or is not as it was when it was found; that is checked when it
    is opened and when it has been read to its end.
    """

    def __init__(self, source: Source, start: int = 0, end: int | None = None) -> None:
        self._source, self.position, self._end = source, start, end
        self.file = self._unpacked_file = open_data(source.name, source.path)  # file: as it lies on disk
        try:
            self.require_unchanged()
            self._unpacked_file = self._unpacked()
            if start:
                self.file.seek(start)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _unpacked(self) -> IO[bytes] | Any:
        if self._source.compression == "gzip":
            return gzip.GzipFile(fileobj=self.file)
        if self._source.compression == "zstd":
            import pyarrow

            # zstandard's own reader ends without an error where a file was cut off
            return pyarrow.CompressedInputStream(pyarrow.PythonFile(self.file, "r"), "zstd")
        return self.file

    def read(self, n: int) -> bytes:
        """Exactly n bytes, fewer only where the end is."""
        if self._end is not None:
            n = min(n, self._end - self.position)
        found = []
        while n > 0 and (data := self._some(min(n, _ONCE))):
            found.append(data)
            n -= len(data)
            self.position += len(data)
        if n > 0 or self.position == self._end:
            self.require_unchanged()
        if n > 0 and self._end is not None:
            raise self._changed()
        return b"".join(found)

    def _some(self, n: int) -> bytes:
        try:
            return self._unpacked_file.read(n)
        except (EOFError, zlib.error, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> ConfigError:
        """The error to raise for one of a read."""
        name, packed_by, what = self._source.name, self._source.compression, str(error)
        if isinstance(error, OSError) and error.errno:
            return ConfigError(f"cannot read data file {name}: {error.strerror}")
        self.file.seek(0)
        if not _MAGIC[packed_by].match(self.file.read(4)):
            suffix = os.path.splitext(name)[1]
            return ConfigError(
                f"data file {name} is not packed by {packed_by}, although its name ends with {suffix}; rename it"
            )
        if isinstance(error, EOFError) or "Truncated" in what:
            return ConfigError(f"data file {name} is cut off: its end is missing; copy or download it again")
        if "too much memory" in what:  # to unpack
            return ConfigError(f"data file {name} takes more than 128 MB to unpack; pack it again without --long")
        return ConfigError(
            f"data file {name} is damaged: {packed_by} says {brief(what, 100)}; copy or download it again"
        )

    def require_unchanged(self) -> None:
        """ConfigError if the file is not as it was when it was found."""
        status = os.fstat(self.file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self._source.size, self._source.mtime_ns):
            raise self._changed()

    def _changed(self) -> ConfigError:
        return ConfigError(f"data file {self._source.name} changed while it was read; start again when it is complete")
