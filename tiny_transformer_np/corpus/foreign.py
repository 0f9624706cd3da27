"""Token ids in files of other trainers, read as they are.

A path is one of these if it is a file whose name ends in `.bin`, or a folder that has a `train.bin`. The file's first
bytes tell which (little-endian):

    llm.c     int32 20240520, 1, n;  1012 bytes without meaning;  n uint16     (also modded-nanogpt and others)
    llm.c     int32 20240801, 7, n;  1012 bytes without meaning;  n uint32     (ids of Llama 3)
    raw       uint16, to the end of the file: nanoGPT's train.bin and val.bin, and what anything else begins with

Nothing marks a raw file. What certainly is something else is refused: another known kind of file, a text, and ids of
more than 16 bits. A pickle, such as the meta.pkl that nanoGPT writes for its characters, is never read.
"""

import codecs
import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels.system.files import StrPath, is_file, is_folder, open_regular
from tiny_transformer_np.config import SIZE, ConfigError
from tiny_transformer_np.corpus.checksums import Progress, read_once
from tiny_transformer_np.corpus.shards import INDEX, Corpus
from tiny_transformer_np.corpus.tokens import MappedFile, Tokens
from tiny_transformer_np.tokenizers import IdTokenizer, Tokenizer

HEADER = 256 * 4  # bytes of llm.c's header
_BEGINNING = 1 << 16  # bytes of a file that are looked at to tell what it is


class Format(NamedTuple):
    """A layout of ids in a file. name: for messages; offset: bytes in front of the ids."""

    name: str
    dtype: np.dtype[Any]
    offset: int


RAW = Format("raw uint16", np.dtype("<u2"), 0)
LLM_C = {  # by magic number and version
    (20240520, 1): Format("llm.c's uint16", np.dtype("<u2"), HEADER),
    (20240801, 7): Format("llm.c's uint32", np.dtype("<u4"), HEADER),
}
_MAGICS = {magic for magic, _ in LLM_C}
_OTHER = {  # what other files begin with; two bytes could be ids
    b"GGUF": "a GGUF model",
    b"lmgg": "a GGML model",
    b"tjgg": "a GGML model",
    b"PK\3\4": "a zip file, as PyTorch writes them",
    b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": "a file of PyTorch",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b\x08": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x7fELF": "a program",
    struct.pack("<i", 20240326): "a model of llm.c",
    struct.pack("<i", 20240327): "a debugging state of llm.c",
    struct.pack("<i", 20240328): "a tokenizer of llm.c",
}


def is_foreign(path: StrPath) -> bool:
    """Whether a path means ids in a file of another trainer: see above."""
    path = Path(path)
    if is_folder(path):
        return is_file(path / "train.bin") and not is_file(path / INDEX)
    return path.suffix == ".bin"


def open_foreign(
    data: Sequence[StrPath],
    val_data: Sequence[StrPath] = (),
    tokenizer: Tokenizer | None = None,
    vocab_size: int = 0,
    progress: Progress | None = None,
) -> Corpus:
    """The ids in files, those of several files one behind another. ConfigError, one line, for what is no such file.

    data, val_data: files, or in each place one folder with train.bin and, for validation, val.bin. Without val_data the
    val.bin beside the train.bin validates, if there is one. The tokenizer is `tokenizer`, or IdTokenizer of
    `vocab_size`, or of the largest id + 1. All files are read once, for checksums and the largest id; the user's cache
    remembers both. progress(done, total): called with bytes of what is read.
    """
    train_paths, beside = _files(data, "train.bin")
    val_paths, _ = _files(val_data, "val.bin")
    val_paths = val_paths or beside
    formats = {path: _format(path) for path in (*train_paths, *val_paths)}
    first = train_paths[0]
    for path, format in formats.items():
        if format != formats[first]:
            raise ConfigError(f"{first} has {formats[first].name} ids, and {path} has {format.name}; "
                              "give files of one format")  # fmt: skip
    train, val = ([_opened(path, formats[path]) for path in paths] for paths in (train_paths, val_paths))
    largest = -1
    for file, found in zip((*train, *val), read_once((*train, *val), progress=progress), strict=True):
        file.sha256 = found.sha256
        _require_fit(file, found.largest, tokenizer, vocab_size)
        largest = max(largest, found.largest)
    if tokenizer is None:
        tokenizer = IdTokenizer(vocab_size or largest + 1)
    dtype = formats[first].dtype
    splits = [Tokens.of_files(files, dtype) for files in (train, val)]
    digest = hashlib.sha256("\n".join(each.digest() for each in splits).encode()).hexdigest()
    notes = [f"{pickle} is not read: a pickle can run any code; a tokenizer.json can be given with --tokenizer"
             for pickle in sorted({path.with_name("meta.pkl") for path in train_paths}) if is_file(pickle)]  # fmt: skip
    return Corpus(tokenizer, splits[0], splits[1] if val else None, digest, tuple(notes))


def _files(paths: Sequence[StrPath], name: str) -> tuple[list[Path], list[Path]]:
    """(the files that `paths` mean: a folder means the one of that `name` in it, the val.bin beside it)."""
    files, beside = [], []
    for path in map(Path, paths):
        if not is_folder(path):
            files.append(path)
            continue
        if len(paths) > 1:
            raise ConfigError(f"{path} is a folder among {len(paths)} paths of ids; give it alone, or files")
        files.append(path / name)
        beside = [path / "val.bin"] if is_file(path / "val.bin") else []
    return files, beside


def _format(path: Path) -> Format:
    """What a file holds, by its first bytes. ConfigError if that is no ids."""
    try:
        with open_regular(path, "rb") as file:
            beginning = file.read(_BEGINNING)
            size = file.seek(0, 2)
    except OSError as error:
        raise ConfigError(f"cannot read data file {path}: {error.strerror}") from None
    if not size:
        raise ConfigError(f"data file {path} is empty; expected ids")
    if int.from_bytes(beginning[:4], "little") in _MAGICS:
        return _llm_c(path, beginning, size)
    if what := _other(beginning, size):
        raise ConfigError(f"data file {path} is {what}; expected ids as nanoGPT (uint16) or llm.c writes them")
    if size % 2:
        raise ConfigError(f"data file {path} has {size:,} bytes, which is no number of uint16 ids; it is cut off or of "
                          "another format")  # fmt: skip
    return RAW


def _llm_c(path: Path, beginning: bytes, size: int) -> Format:
    if size < HEADER:
        raise ConfigError(f"data file {path} is cut off: {size} bytes, and llm.c's header has {HEADER}; make it again")
    magic, version, count = struct.unpack("<3i", beginning[:12])
    format = LLM_C.get((magic, version))
    if format is None:
        versions = ", ".join(str(version) for known, version in LLM_C if known == magic)
        raise ConfigError(f"data file {path} is llm.c's version {version} of format {magic}; expected {versions}")
    expected = HEADER + count * format.dtype.itemsize
    if not count:
        raise ConfigError(f"data file {path} has no ids, by its header")
    if size != expected:
        what = "is cut off" if size < expected else "does not fit its header"
        raise ConfigError(f"data file {path} {what}: a header of {count:,} ids means {expected:,} bytes, and it has "
                          f"{size:,}; make it again")  # fmt: skip
    return format


def _other(beginning: bytes, size: int) -> str | None:
    """What else a file is that begins so and has `size` bytes; None if it may hold raw ids."""
    for magic, what in _OTHER.items():
        if beginning.startswith(magic):
            return what
    if beginning[8:10] == b'{"' and int.from_bytes(beginning[:8], "little") <= size - 8:
        return "a safetensors file"
    if len(beginning) >= 64 and _is_text(beginning):
        return "a text; call it .txt"
    ids = np.frombuffer(beginning[: len(beginning) // 4 * 4], "<u2")
    if len(ids) < 64:
        return None
    low, high = ids[::2].max(), ids[1::2].max()  # the halves of integers of 32 bits, if they are such
    if low > (255 if high else 0) and high <= 3:
        return "one of ids that have more than 16 bits, without a header; convert them to uint16, or to llm.c's format"
    return None


def _is_text(beginning: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _opened(path: Path, format: Format) -> MappedFile:
    size = path.stat().st_size
    return MappedFile(path, format.dtype, (size - format.offset) // format.dtype.itemsize, format.offset)


def _require_fit(file: MappedFile, largest: int, tokenizer: Tokenizer | None, vocab_size: int) -> None:
    """ConfigError unless the ids of a file are ids of the tokenizer."""
    if largest >= SIZE:
        raise ConfigError(
            f"data file {file.path} has the id {largest}; expected ids below {SIZE}; is it of another kind?"
        )
    known = tokenizer.vocab_size if tokenizer else vocab_size or SIZE
    if largest >= known:
        what = f"its tokenizer has {known} ids" if tokenizer else f"vocab_size is {known}"
        advice = "give the tokenizer that made it" if tokenizer else "leave --vocab-size out, or give a larger one"
        raise ConfigError(f"data file {file.path} has the id {largest}, but {what}; {advice}")
