"""A corpus on disk: a folder of shards, the tokenizer that made them, and an index, which is written last.

    index.json            the shards of each split, with their sizes and checksums
    tokenizer.json        the tokenizer
    train-00000.bin       token ids, uint16 or uint32, little-endian, nothing else: np.memmap reads it
    train-00000.borders   uint64, little-endian: the places in the shard behind which a document ends, ascending
    train-00000.json      what the index says of the shard, until there is an index
    plan.json             what `prepare` was asked for, written first; not read here

Each file is written under another name first, and so is whole or not there. What stands in an index is not believed
before it is checked.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system import cli
from kernels.system.files import StrPath, is_file, is_folder, open_regular, replacing
from kernels.system.printable import brief, one_line
from kernels.system.tensors import MAX_TEXT, parse_json
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import COUNT, SIZE, ConfigError
from tiny_transformer_np.corpus.checksums import Found, Progress, ascending, read_once
from tiny_transformer_np.corpus.tokens import MappedFile, TokenRange, Tokens
from tiny_transformer_np.tokenizers import Tokenizer

Entry: TypeAlias = dict[str, Any]  # what the index says of a shard

FORMAT, VERSION = "minigrad-corpus", 1
INDEX, TOKENIZER, PLAN = "index.json", "tokenizer.json", "plan.json"
SPLITS = ("train", "val")
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
BORDER = np.dtype("<u8")
ENTRY = {"file": str, "tokens": int, "bytes": int, "documents": int, "sha256": str, "borders": str,
         "borders_sha256": str}  # fmt: skip
KEYS = {"format": str, "version": int, "dtype": str, "vocab_size": int, "tokenizer_sha256": str, "separator": str,
        "splits": dict, "sha256": str}  # fmt: skip
_NAME = re.compile(r"(?:train|val)-[0-9]{5,9}")
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST = 4 * MAX_TEXT  # bytes of a file of JSON: UTF-8 has up to 4 for a character
ADVICE = "copy the corpus again, or prepare it again"  # ends what is said of a damaged one


class EncodedPiece(NamedTuple):
    """Part of a document, as ids (n,): those of `text_bytes` bytes of UTF-8 text, and of a separator."""

    ids: Array
    text_bytes: int
    ends_document: bool


@dataclass(frozen=True)
class Corpus:
    """Tokens to train on and, where there are some, to validate. digest: of everything; notes: lines for a person."""

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens | None
    digest: str
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------ writing


def write_shard(folder: StrPath, name: str, pieces: Iterable[EncodedPiece], dtype: npt.DTypeLike) -> Entry:
    """Write the shard `name`, such as "train-00000", and return what the index says of it.

    One piece at a time is in memory. A document without ids has no border. ValueError for a name or a dtype that no
    shard has, or an id that the dtype cannot hold: then no file is left.
    """
    folder, kind = Path(folder), np.dtype(dtype)
    if not _NAME.fullmatch(name) or kind.name not in DTYPES:
        raise ValueError(
            f"the shard {brief(name)} of {kind}; expected one such as train-00000 of {' or '.join(DTYPES)}"
        )
    counts = {"tokens": 0, "bytes": 0, "documents": 0}
    tokens_file, borders_file = folder / f"{name}.bin", folder / f"{name}.borders"
    with (
        replacing(tokens_file) as tokens_path,
        replacing(borders_file) as borders_path,
        open(tokens_path, "wb") as ids,
        open(borders_path, "wb") as borders,
    ):
        sums = _write_pieces(_Hashed(ids), _Hashed(borders), pieces, kind, counts)
    entry = {"file": tokens_file.name, **counts, "sha256": sums[0], "borders": borders_file.name,
             "borders_sha256": sums[1]}  # fmt: skip
    write_json(folder / f"{name}.json", entry)
    return entry


class _Hashed:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    def write(self, numbers: Array) -> None:
        data = np.ascontiguousarray(numbers).data
        self._sha256.update(data)
        self._file.write(data)

    def sha256(self) -> str:
        return self._sha256.hexdigest()


def _write_pieces(
    tokens: _Hashed, borders: _Hashed, pieces: Iterable[EncodedPiece], dtype: np.dtype[Any], counts: dict[str, int]
) -> tuple[str, str]:
    """Write all pieces, add to `counts`, and return the sha256 of both files."""
    last_border = 0
    for piece in pieces:
        ids = np.asarray(piece.ids)
        if len(ids) and not 0 <= ids.min() <= ids.max() <= np.iinfo(dtype).max:
            raise ValueError(f"ids from {ids.min()} to {ids.max()}, which {dtype} cannot hold")
        tokens.write(ids.astype(DTYPES[dtype.name]))
        counts["tokens"] += len(ids)
        counts["bytes"] += piece.text_bytes
        if piece.ends_document and counts["tokens"] > last_border:
            last_border = counts["tokens"]
            borders.write(np.array([last_border], BORDER))
            counts["documents"] += 1
    return tokens.sha256(), borders.sha256()


def finished_shard(folder: StrPath, name: str, dtype: npt.DTypeLike) -> Entry | None:
    """What `write_shard` returned for this shard, if it was written to its end with this dtype; None otherwise."""
    folder = Path(folder)
    with suppress(OSError, ConfigError):
        entry = _entry(_read_json(folder / f"{name}.json", "shard"), folder / f"{name}.json")
        if entry["file"] == f"{name}.bin":
            sizes = [(folder / entry[file]).stat().st_size for file in ("file", "borders")]
            if sizes == [entry["tokens"] * np.dtype(dtype).itemsize, entry["documents"] * BORDER.itemsize]:
                return entry
    return None


def write_index(
    folder: StrPath,
    tokenizer: Tokenizer,
    dtype: npt.DTypeLike,
    train: Sequence[Entry],
    val: Sequence[Entry] = (),
    separator: str = "",
) -> str:
    """Make `folder` a corpus of these shards, in this order, and return its digest.

    dtype: of all shards; separator: what stands behind every document. The index appears last. Files of the shards that
    only served to go on are removed. ConfigError for more shards than an index may have.
    """
    folder = Path(folder)
    write_tokenizer(folder, tokenizer)
    tokenizer_sha256 = hashlib.sha256(_read(folder / TOKENIZER)).hexdigest()
    index: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "dtype": np.dtype(dtype).name, "vocab_size": tokenizer.vocab_size,
        "tokenizer_sha256": tokenizer_sha256, "separator": separator,
        "splits": {"train": list(train), "val": list(val)},
    }  # fmt: skip
    index["sha256"] = _digest(index)
    if len(text := _json(index).encode()) > MAX_TEXT:
        raise ConfigError(
            f"{len(train) + len(val):,} shards are more than one corpus can have; prepare parts of the text"
        )
    with replacing(folder / INDEX) as path:
        path.write_bytes(text)
    for entry in (*train, *val):
        (folder / entry["file"]).with_suffix(".json").unlink(missing_ok=True)
    return index["sha256"]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of a corpus, whole or not at all; equal values give equal bytes."""
    with replacing(path) as partial:
        partial.write_text(_json(value), encoding="utf-8", newline="\n")


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the tokenizer.json of a corpus. It is not indented: one that a checkpoint can hold fits in MAX_TEXT too."""
    with replacing(folder / TOKENIZER) as partial:
        text = json.dumps(tokenizer.to_json(), ensure_ascii=False) + "\n"
        partial.write_text(text, encoding="utf-8", newline="\n")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _digest(index: Mapping[str, Any]) -> str:
    """The sha256 of an index, without the one that it holds."""
    rest = {key: value for key, value in index.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# ------------------------------------------------------------------------------------------ reading


def prepare_command(out: StrPath = "DIR", paths: Sequence[str] = ("PATH...",), tokenizer: StrPath = "") -> str:
    """The command that makes a corpus, as it can be typed."""
    command = cli.command("tiny_transformer_np.training.prepare", "minigrad-prepare")
    chosen = ["--tokenizer", str(tokenizer)] if tokenizer else []
    return f"{command} {shlex.join([*paths, *chosen, '--out', str(out)])}"


def is_corpus(path: StrPath) -> bool:
    """Whether `path` is a folder that `prepare` made, or began to make."""
    return is_folder(path) and (is_file(Path(path) / INDEX) or _is_unfinished(Path(path)))


def open_corpus(folder: StrPath, progress: Progress | None = None) -> Corpus:
    """The corpus in `folder`. ConfigError, one line, if any of it is missing, damaged or cannot be trusted.

    Reads all files once, to compare their checksums; the user's cache remembers those that were found sound, until they
    change. progress(done, total): called with bytes of what is read.
    """
    folder = Path(folder)
    index = read_index(folder)
    tokenizer = _read_tokenizer(folder, index)
    dtype = DTYPES[index["dtype"]]
    splits: dict[str, Tokens] = {}
    files: list[MappedFile] = []
    ends: list[MappedFile] = []
    for split in SPLITS:
        ranges = []
        for entry in index["splits"][split]:
            files.append(_mapped(folder, entry["file"], dtype, entry["tokens"], entry["sha256"]))
            ends.append(_mapped(folder, entry["borders"], BORDER, entry["documents"], entry["borders_sha256"]))
            ranges.append(TokenRange(files[-1], 0, entry["tokens"], ends[-1]))
        splits[split] = Tokens.of_ranges(ranges, dtype)
    _verify(files, ends, index["vocab_size"], progress)
    return Corpus(tokenizer, splits["train"], splits["val"] if index["splits"]["val"] else None, index["sha256"])


def _verify(files: list[MappedFile], ends: list[MappedFile], vocab_size: int, progress: Progress | None) -> None:
    """ConfigError unless every file is the one that was written, and its numbers are within their bounds."""
    lengths = {end.path.name: file.length for file, end in zip(files, ends, strict=True)}

    def expect(file: MappedFile, found: Found) -> None:
        if found.sha256 != file.sha256:
            raise ConfigError(f"{file.path} is damaged: its checksum differs; {ADVICE}")
        name = file.path.name
        if name in lengths and found.largest > lengths[name]:
            raise ConfigError(f"{file.path} has a document that ends at {found.largest}, behind its shard's end")
        if name not in lengths and found.largest >= vocab_size:
            raise ConfigError(f"{file.path} has the id {found.largest}, but its tokenizer has {vocab_size} ids")

    read_once(ends, expect, fold=ascending)
    read_once(files, expect, progress)


def _mapped(folder: Path, name: str, dtype: np.dtype[Any], length: int, sha256: str) -> MappedFile:
    path = folder / name
    if path.is_symlink():
        raise ConfigError(f"{path} is a symbolic link; put the file itself there")
    try:
        return MappedFile(path, dtype, length, sha256=sha256)
    except ConfigError as error:
        raise ConfigError(f"{error}; {ADVICE}") from None


def read_index(folder: Path) -> dict[str, Any]:
    """The index, checked except for what it says of files."""
    path = folder / INDEX
    if not is_folder(folder):
        raise ConfigError(f"{folder} is no folder; expected one that `{prepare_command()}` made")
    if not is_file(path):
        if _is_unfinished(folder):
            raise ConfigError(f"the corpus {folder} is not finished; the command that began it goes on: "
                              f"{prepare_command(folder)}")  # fmt: skip
        raise ConfigError(f"{folder} has no {INDEX}; expected a corpus, which `{prepare_command()}` makes")
    index = _read_json(path, "index")
    if index.get("format") != FORMAT:
        raise ConfigError(f"{path} is not the index of a corpus; its format is {brief(index.get('format'))}")
    version = index.get("version")
    if type(version) is not int or version != VERSION:
        raise ConfigError(f"{path} has version {brief(version)}; expected {VERSION}; use the program that wrote it")
    _check_types(index, KEYS, path)
    if index["sha256"] != _digest(index):
        raise ConfigError(f"{path} is damaged: its checksum differs; {ADVICE}")
    if index["dtype"] not in DTYPES:
        raise ConfigError(f"{path} has the dtype {brief(index['dtype'])}; expected {' or '.join(DTYPES)}")
    if not 1 <= index["vocab_size"] <= SIZE:
        raise ConfigError(f"{path} has vocab_size {brief(index['vocab_size'])}; expected 1 to {SIZE}")
    if index["splits"].keys() != set(SPLITS) or not all(isinstance(each, list) for each in index["splits"].values()):
        raise ConfigError(f"{path} has the splits {brief(index['splits'])}; expected lists {' and '.join(SPLITS)}")
    names = [_entry(each, path)["file"] for split in SPLITS for each in index["splits"][split]]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path} names a shard twice")
    return index


def _entry(entry: Any, path: Path) -> Entry:
    """What an index or a shard's own file says of a shard, checked."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{path} has the shard {brief(entry)}; expected an object")
    _check_types(entry, ENTRY, path)
    name = Path(entry["file"]).stem
    if not _NAME.fullmatch(name) or (entry["file"], entry["borders"]) != (f"{name}.bin", f"{name}.borders"):
        found = f"{brief(entry['file'])} and {brief(entry['borders'])}"
        raise ConfigError(f"{path} names the files {found}; expected train-00000.bin and train-00000.borders or so")
    for key in ("tokens", "bytes", "documents"):
        if not 0 <= entry[key] <= COUNT:
            raise ConfigError(f"{path} has {key} {brief(entry[key])} for {entry['file']}; expected 0 to {COUNT}")
    return entry


def _check_types(table: dict[str, Any], types: dict[str, type], path: Path) -> None:
    if missing := sorted(types.keys() - table.keys()):
        raise ConfigError(f"{path} is damaged: it has no {missing[0]}")
    if unknown := sorted(table.keys() - types.keys()):
        raise ConfigError(f"{path} has an unknown {brief(unknown[0])}; use the version of the program that wrote it")
    for key, expected in types.items():
        if type(table[key]) is not expected:
            raise ConfigError(f"{path} is damaged: its {key} is {brief(table[key])}")


def _read_tokenizer(folder: Path, index: dict[str, Any]) -> Tokenizer:
    path = folder / TOKENIZER
    if not is_file(path):
        raise ConfigError(f"the corpus {folder} has no {TOKENIZER}; {ADVICE}")
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != index["tokenizer_sha256"]:
        raise ConfigError(f"{path} does not fit {INDEX}: the corpus was made with another tokenizer; {ADVICE}")
    try:
        tokenizer = tokenizers.from_json(parse_json(content.decode()))
    except ValueError as error:
        raise ConfigError(f"the tokenizer {path} cannot be used: {one_line(error)}") from None
    if tokenizer.vocab_size != index["vocab_size"]:
        raise ConfigError(f"{path} has {tokenizer.vocab_size} ids, but {INDEX} says {index['vocab_size']}; {ADVICE}")
    return tokenizer


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        return parse_json(_read(path).decode())
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"the {what} {path} is damaged ({one_line(error)}); {ADVICE}") from None


def _read(path: Path) -> bytes:
    """A file of JSON. ConfigError, and no more is read, if it is larger than those that are written here."""
    try:
        with open_regular(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{path} has more than {_LARGEST:,} bytes, so it is none of this program; {ADVICE}")
    return content


def _is_unfinished(folder: Path) -> bool:
    """Whether `prepare` has begun to make a corpus of this folder; of one that has no index yet."""
    return is_file(folder / PLAN) or any(any(folder.glob(f"{split}-*.borders")) for split in SPLITS)
