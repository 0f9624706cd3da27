"""The files that text comes from, as a person names them: files, folders, patterns."""

import glob
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.system.cli import complain
from kernels.system.files import StrPath, given, is_folder
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.contents import refuse_what_is_no_text, suspicion
from tiny_transformer_np.corpus.decoding import BOM, STANDARD_INPUT
from tiny_transformer_np.corpus.streams import COMPRESSIONS, Stream, open_data, require_pyarrow

#: endings of the names that a folder is searched for, and how such a file is read
FORMATS = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
HEAD = 4096  # bytes at the beginning of a file that show what it is


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


def find_sources(
    paths: Iterable[StrPath], *, plain: bool = False, keep_marks: bool = False, standard_input: StrPath | None = None
) -> list[Source]:
    """The files at these paths: files, folders (searched to their ends, in the order of names), patterns as `a/*.txt`.

    A file given by name is text unless its name ends as one of FORMATS, with .gz or .zst or without; in a folder all
    other files are left out, and so are empty ones and names that begin with a dot. The beginning of each file is
    looked at. "-" is standard input, which lies in the file `standard_input`, see `save_standard_input`. plain: every
    file is text, whatever its name and its beginning, as in version 0.2.0 and before. UserError or ConfigError, in one
    line, for what cannot be read, has no text, or is no text.
    """
    found: list[Source] = []
    noted: list[str] = []
    for path in paths:
        if path == "-" and not plain:
            if standard_input is None:
                raise ConfigError("'-', standard input, cannot be read here; save it in a file")
            files, by_name = [Path(standard_input)], True
        else:
            files, by_name = _files(path, plain)
        names = [STANDARD_INPUT if path == "-" else str(given(file)) for file in files]
        usable = (
            _usable(file, name, by_name, plain, keep_marks, noted) for file, name in zip(files, names, strict=True)
        )
        sources = [source for source in usable if source]
        if not sources:
            raise ConfigError(f"every file of text in {path} is empty; expected text")
        found += sources
    if noted:
        more = f" (and {len(noted) - 1} more)" if len(noted) > 1 else ""
        complain("note", f"data file {noted[0]}{more}")
    _note_repeated(found)
    return found


def _files(path: StrPath, plain: bool) -> tuple[list[Path], bool]:
    """The files that a path means, and whether it names one."""
    path = given(path)
    if plain:
        return [path], True
    if is_folder(path):
        return _in_folder(path), False
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path], True
    matches = _matches(path)
    files = [match for match in matches if not is_folder(match)] or [f for match in matches for f in _in_folder(match)]
    if not files:
        raise ConfigError(f"no file matches the pattern {path}; give the name of a file or folder, or another pattern")
    return files, False


def _matches(pattern: Path) -> list[Path]:
    """The paths that match a pattern, in the order of names. Links to folders are not followed by `**`."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    names = pattern.parts[len(fixed) :]
    try:
        matches = sorted(Path(*fixed).glob("/".join(names)))
    except (ValueError, OSError) as error:
        raise ConfigError(f"cannot search for {pattern}: {getattr(error, 'strerror', None) or error}") from None
    if any(name.startswith(".") for name in names):
        return matches
    return [match for match in matches if not any(part.startswith(".") for part in match.parts[len(fixed) :])]


def _in_folder(folder: Path) -> list[Path]:
    """The files of a folder and those below it whose names end as FORMATS say. ConfigError if there is none."""
    others: Counter[str] = Counter()
    files = []
    for file in _walk(folder):
        if named_format(file.name)[0]:
            files.append(file)
        else:
            others[file.suffix] += 1
    if not files:
        most = [f"{n} with {suffix or 'no ending'}" for suffix, n in others.most_common(5)]
        there = ", ".join(most + ["others"] * (len(others) > 5)) or "no files"
        raise ConfigError(
            f"folder {folder} has no text: expected names that end with {', '.join(FORMATS)}, and .gz or .zst after "
            f"it, but it has {there}; text with another ending is read if a file's name or a pattern is given"
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, in the order of names; links to folders are followed, each folder is visited once."""
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, True)]
    while waiting:
        path, is_directory = waiting.pop()
        if not is_directory:
            yield path
            continue
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted((name for name in os.listdir(path) if not name.startswith(".")), reverse=True)
        except OSError as error:
            raise ConfigError(f"cannot read data folder {path}: {error.strerror}") from None
        waiting += [(path / name, os.path.isdir(path / name)) for name in names]


def named_format(name: str) -> tuple[str, str]:
    """(format, compression) that the ending of a file's name says; the format is "" if it is none of FORMATS."""
    stem, suffix = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "")
    return FORMATS.get(os.path.splitext(stem)[1] if compression else suffix, ""), compression


def source_of(file: StrPath, name: str, format: str, compression: str, keep_marks: bool = False) -> Source:
    """The Source of a file as it is now. ConfigError if it cannot be read."""
    if format == "parquet" or compression == "zstd":
        require_pyarrow(name)
    with open_data(name, file) as opened:
        status = os.fstat(opened.fileno())
    path = os.path.abspath(file)
    return Source(path, name, format, compression, status.st_size, status.st_mtime_ns, keep_marks)


def _usable(file: Path, name: str, by_name: bool, plain: bool, keep_marks: bool, noted: list[str]) -> Source | None:
    """The Source of a file of text; None if it is empty and was not given by name. Adds to `noted` what to say."""
    format, compression = ("text", "") if plain else named_format(file.name)
    format = format or "text"
    if format == "parquet" and compression:
        raise ConfigError(f"data file {name} is a packed Parquet file, which is read only unpacked; unpack it")
    source = source_of(file, name, format, compression, keep_marks)
    with Stream(source) as stream:
        head = stream.read(HEAD)
    if not head.removeprefix(BOM):
        if by_name:
            raise ConfigError(f"data file {name} is empty; expected text")
        return None
    if not plain:
        refuse_what_is_no_text(source, head)
        if format == "text" and (what := suspicion(head)):
            noted.append(f"{name} {what}")
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
        more = f" and {len(repeated) - 1} more are" if len(repeated) > 1 else " is"
        complain("note", f"data file {repeated[0]}{more} given twice, and read twice")
