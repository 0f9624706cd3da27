"""The files that text comes from, as a person names them: files, folders, patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.system.cli import complain
from kernels.system.files import StrPath, given, is_folder
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.contents import refuse_what_is_no_text, suspicion
from tiny_transformer_np.corpus.streams import COMPRESSIONS, Stream, missing_pyarrow, open_data

#: endings of the names that a folder is searched for, and how such a file is read
FORMATS = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_HEAD = 4096  # bytes at the beginning of a file that show what it is


@dataclass(frozen=True)
class Source:
    """A file to read text from, as it was when it was found.

    path: absolute; name: as the person wrote it, for messages; format: "text", "jsonl" or "parquet"; compression: "",
    "gzip" or "zstd"; size: bytes on disk; keep_marks: a byte order mark at the beginning is the character U+FEFF.
    """

    path: str
    name: str
    format: str
    compression: str
    size: int
    mtime_ns: int
    keep_marks: bool = False


def find_sources(paths: Iterable[StrPath], *, plain: bool = False, keep_marks: bool = False) -> list[Source]:
    """The files at these paths: files, folders (searched to their ends, in the order of names), patterns as `a/*.txt`.

    A file given by name is text unless its name ends as one of FORMATS, with .gz or .zst or without; in a folder all
    other files are left out, and so are empty ones and names that begin with a dot. The beginning of each file is
    looked at. plain: every file is text, whatever its name and its beginning, as in version 0.2.0 and before.
    UserError or ConfigError, in one line, for what cannot be read, has no text, or is no text.
    """
    found = []
    for path in paths:
        files, by_name = _files(path, plain)
        sources = [source for file in files if (source := _source(file, by_name, plain, keep_marks))]
        if not sources:
            raise ConfigError(f"all {len(files)} files of text in {path} are empty; expected text")
        found += sources
    _note_repeated(found)
    return found


def _files(path: StrPath, plain: bool) -> tuple[Sequence[Path], bool]:
    """The files that a path means, and whether it names one."""
    path = given(path)
    if plain:
        return [path], True
    if is_folder(path):
        return _in_folder(path), False
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path], True
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    files = [match for match in matches if not is_folder(match)] or [f for match in matches for f in _in_folder(match)]
    if not files:
        raise ConfigError(f"no file matches the pattern {path}; give the name of a file or folder, or another pattern")
    return files, False


def _in_folder(folder: Path) -> list[Path]:
    """The files of a folder and those below it whose names end as FORMATS say. ConfigError if there is none."""
    others: dict[str, int] = {}
    files = []
    for file in _walk(folder, set()):
        if named_format(file.name):
            files.append(file)
        else:
            others[file.suffix or "no ending"] = others.get(file.suffix or "no ending", 0) + 1
    if not files:
        most = sorted(others, key=lambda suffix: (-others[suffix], suffix))
        there = ", ".join(f"{others[suffix]} with {suffix}" for suffix in most[:5]) or "no files"
        raise ConfigError(
            f"folder {folder} has no text: it has {there}{' and others' if len(most) > 5 else ''}; expected names that "
            f"end with {', '.join(FORMATS)}, and .gz or .zst after it; a text file with another name can be given by it"
        )
    return files


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """All files below a folder, in the order of names; links to folders are followed, each folder is visited once."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"cannot read data folder {folder}: {error.strerror}") from None
    for name, is_directory in found:
        if is_directory:
            yield from _walk(folder / name, seen)
        else:
            yield folder / name


def named_format(name: str) -> tuple[str, str] | None:
    """(format, compression) that the ending of a file's name says, None if it is none of FORMATS."""
    stem, suffix = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "")
    if compression:
        suffix = os.path.splitext(stem)[1]
    return (FORMATS[suffix], compression) if suffix in FORMATS else None


def _source(file: Path, by_name: bool, plain: bool, keep_marks: bool) -> Source | None:
    """The Source of a file; None if it is empty and was not given by name."""
    name = str(given(file))
    compression = COMPRESSIONS.get(file.suffix.lower(), "")
    format, compression = ("text", "") if plain else named_format(file.name) or ("text", compression)
    if format == "parquet" and compression:
        raise ConfigError(f"data file {name} is compressed twice, as Parquet files are by themselves; unpack it first")
    if (format == "parquet" or compression == "zstd") and (missing := missing_pyarrow()):
        raise ConfigError(f"cannot read data file {name}: {missing}")
    with open_data(name, file) as opened:
        status = os.fstat(opened.fileno())
    source = Source(os.path.abspath(file), name, format, compression, status.st_size, status.st_mtime_ns, keep_marks)
    with Stream(source) as stream:
        head = stream.read(_HEAD)
    if not head.removeprefix(b"\xef\xbb\xbf"):
        if by_name:
            raise ConfigError(f"data file {name} is empty; expected text")
        return None
    if not plain:
        refuse_what_is_no_text(source, head)
        if format == "text" and (what := suspicion(head)):
            complain("note", f"data file {name} {what}")
    return source


def _note_repeated(sources: Sequence[Source]) -> None:
    """Say which files occur twice: a file that lies in a given folder, and is given by name too."""
    names: set[str] = set()
    repeated = []
    for source in sources:
        path = os.path.realpath(source.path)
        if path in names:
            repeated.append(source.name)
        names.add(path)
    if repeated:
        more = f" and {len(repeated) - 1} more files are" if len(repeated) > 1 else " is"
        complain("note", f"data file {repeated[0]}{more} given twice, and read twice")
