"""Standard input as a file: it is read several times, by several processes."""

import os
import shutil
import sys
from pathlib import Path

from kernels.system.cli import complain
from kernels.system.files import StrPath
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.contents import has_json_lines
from tiny_transformer_np.corpus.decoding import STANDARD_INPUT
from tiny_transformer_np.corpus.sources import HEAD, source_of
from tiny_transformer_np.corpus.streams import COMPRESSIONS, Stream

_MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}  # how packed files begin
_ONCE = 1 << 20  # bytes copied at a time


def save_standard_input(folder: StrPath) -> Path:
    """Copy standard input into `folder` -> the path of the file, which the caller removes.

    Its name ends as its contents are: .txt, .jsonl or .parquet, packed (.gz, .zst) or not. ConfigError if it is closed.
    """
    if sys.stdin is None:
        raise ConfigError("standard input, '-', is closed; give the name of a file")
    path = Path(folder, "standard-input")
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, _ONCE)
    named = path.with_suffix(_ending(path))
    os.replace(path, named)
    return named


def _ending(path: Path) -> str:
    """The ending of a name that says what this file of standard input is."""
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return ".parquet"
    packed = next((suffix for suffix, start in _MAGIC.items() if magic.startswith(start)), "")
    with Stream(source_of(path, STANDARD_INPUT, "text", COMPRESSIONS.get(packed, ""))) as stream:
        lines = has_json_lines(stream.read(HEAD))
    if lines:
        complain("note", "standard input has lines of JSON, and is read as .jsonl")
    return (".jsonl" if lines else ".txt") + packed
