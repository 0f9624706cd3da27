"""What a folder of shards is made of: the arguments of `prepare`, and the files as they were when it began.

The plan stays in the folder. A later command goes on there only if it asks for the same and the files are the same.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kernels.system import files
from kernels.system.files import StrPath
from kernels.system.printable import brief, did_you_mean
from tiny_transformer_np.config import BPE_VOCAB_SIZE, ConfigError
from tiny_transformer_np.corpus.documents import Source
from tiny_transformer_np.corpus.encoding import KINDS
from tiny_transformer_np.corpus.shards import PLAN
from tiny_transformer_np.tokenizers import files as tokenizer_files
from tiny_transformer_np_package_check import __version__

Stamp: TypeAlias = list[Any]  # of a file: its absolute path, size and mtime_ns; of standard input "-", size and sha256

_FORMAT, _VERSION = "minigrad-corpus-plan", 1


@dataclass(frozen=True)
class Request:
    """What a corpus is asked to be. tokenizer: see `encoding.make_tokenizer`; field: of documents with several."""

    data: tuple[str, ...]
    val_data: tuple[str, ...] = ()
    tokenizer: str = "bpe"
    vocab_size: int = 0
    field: str = "text"


@dataclass(frozen=True)
class Plan:
    """arguments {name: value}; stamps {"train", "val", "tokenizer": of each file}; program: its version."""

    arguments: dict[str, Any]
    stamps: dict[str, list[Stamp]]
    program: str = __version__

    @classmethod
    def of(cls, request: Request, splits: Sequence[Sequence[Stamp]]) -> "Plan":
        spec = request.tokenizer
        arguments: dict[str, Any] = {
            "tokenizer": spec if spec in KINDS else os.path.abspath(spec),
            "field": request.field,
        }
        if spec == "bpe":
            arguments["vocab_size"] = request.vocab_size or BPE_VOCAB_SIZE
        stamps = {"train": list(splits[0]), "val": list(splits[1]), "tokenizer": _tokenizer_stamps(spec)}
        return cls(arguments, stamps)

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """The plan in a folder; None if there is none. ConfigError for one that is damaged."""
        try:
            with files.open_regular(folder / PLAN, "rb") as file:
                found = json.loads(file.read())
            if (found["format"], found["version"]) != (_FORMAT, _VERSION):
                raise ValueError
            return cls(found["arguments"], found["files"], found["program"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {folder / PLAN}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(
                f"{folder / PLAN} is not a plan of this program; give another --out, or remove the folder"
            ) from None

    def write(self, folder: Path) -> None:
        plan = {"format": _FORMAT, "version": _VERSION, "program": self.program,
                "arguments": self.arguments, "files": self.stamps}  # fmt: skip
        with files.replacing(folder / PLAN) as partial:
            partial.write_text(json.dumps(plan, indent=1), encoding="utf-8", newline="\n")

    def difference(self, then: "Plan") -> str | None:
        """What differs from the plan `then`, which the folder has, as part of a sentence; None if nothing does."""
        for name in dict.fromkeys([*then.arguments, *self.arguments]):
            before, now = then.arguments.get(name), self.arguments.get(name)
            if before != now:
                return f"{name} was {brief(before)} there, and is {brief(now)} now"
        for name, now in self.stamps.items():
            if found := _changed(then.stamps[name], now):
                return found
        return None

    def changed_files(self) -> str | None:
        """The first of the files that is no longer what it was, as part of a sentence."""
        now = {
            name: [stamp if stamp[0] == "-" else _stamp(stamp[0]) for stamp in stamps]
            for name, stamps in self.stamps.items()
        }
        return next((found for name in now if (found := _changed(self.stamps[name], now[name]))), None)


def stamp(source: Source) -> Stamp:
    return [str(source.path), source.size, source.mtime_ns]


def _stamp(path: StrPath) -> Stamp:
    found = files.status(path)
    return [str(path), found.st_size, found.st_mtime_ns] if found else [str(path), -1, -1]


def _tokenizer_stamps(spec: str) -> list[Stamp]:
    """Of the file of a tokenizer, or of those that a folder has. ConfigError if there is none."""
    if spec in KINDS:
        return []
    path = Path(os.path.abspath(spec))
    if files.is_folder(path):
        places = [path / name for name in tokenizer_files.NAMES]
    else:
        places = [path, *(path.with_name(name) for name in tokenizer_files.beside(path.name))]
    found = [_stamp(place) for place in places if files.status(place)]
    if not found:
        raise ConfigError(
            f"there is no tokenizer {spec}: expected {', '.join(KINDS)}, the path of a tokenizer.json, or of a folder "
            f"with vocab.json and merges.txt{did_you_mean(spec, KINDS)}"
        )
    return found


def _changed(then: Sequence[Stamp], now: Sequence[Stamp]) -> str | None:
    """What differs between two lists of files, as part of a sentence."""
    before, after = ({stamp[0]: stamp for stamp in stamps} for stamps in (then, now))
    for path in before:
        if path not in after:
            return f"{_name(path)} was among its files"
        if before[path] != after[path]:
            return f"{_name(path)} has changed since"
    for path in after:
        if path not in before:
            return f"{_name(path)} was not among its files"
    return None if then == now else "the order of its files was another"


def _name(path: str) -> str:
    return "standard input" if path == "-" else path
