"""From documents to token ids: the tokenizer of a corpus, and the ids of one unit of its text.

Both take a bounded amount of memory. `prepare` has worker processes do it, by the names in TASKS; `cache` does it
itself.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from kernels.system.printable import one_line
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import BPE_VOCAB_SIZE, TOKENIZERS, ConfigError
from tiny_transformer_np.corpus.documents import Unit, read
from tiny_transformer_np.corpus.shards import TOKENIZER, EncodedPiece, Entry, write_shard, write_tokenizer
from tiny_transformer_np.tokenizers import Tokenizer

Options: TypeAlias = dict[str, Any]  # how documents are read: keyword arguments of `documents.read`
Splits: TypeAlias = Sequence[Sequence[Unit]]  # units to train on, units to validate
Tell: TypeAlias = Callable[[int], object]  # called with the number of bytes of text since its last call

KINDS = TOKENIZERS[1:]  # without "auto", which train.py alone knows
SEPARATOR = "\n"  # between documents, where the tokenizer has no token for the end of one
NO_TEXT = "the data have no text; give files with text in them"
_BATCH = 1 << 19  # characters of short documents that are encoded together


class _Text(NamedTuple):
    """Part of a document, and what comes in front of it: "\\n" if it begins a document other than the first."""

    path: str
    separator: str
    text: str
    ends_document: bool


def make_tokenizer(spec: str, vocab_size: int, splits: Splits, options: Options, tell: Tell = int) -> Tokenizer:
    """The tokenizer that `spec` names: "byte"; "char" or "bpe", trained on the units; or the path of a file or folder.

    vocab_size: of a BPE, 0: BPE_VOCAB_SIZE; splits: the units that `learned_units` returns. ConfigError for data or a
    file that cannot be used.
    """
    if spec not in KINDS:
        return tokenizers.load(spec)
    pieces = (piece for units in splits for piece in _pieces(units, options, tell))
    first = next(pieces, None)
    if first is None and spec != "byte":
        raise ConfigError(NO_TEXT)
    try:
        return tokenizers.train(spec, itertools.chain([first or ""], pieces), vocab_size or BPE_VOCAB_SIZE)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"the data give no tokenizer: {error}") from None


def _pieces(units: Sequence[Unit], options: Options, tell: Tell) -> Iterator[str]:
    """The text of a split, in pieces."""
    first = True
    for unit in units:
        for text in _texts(unit, first, options, tell):
            yield from filter(None, (text.separator, text.text))
            first = False


def learned_units(spec: str, splits: Splits) -> Splits:
    """The units that a tokenizer of this kind learns from: of those to train on, and those to validate.

    The vocabulary of characters is that of both. A BPE learns from the first alone; of a large corpus, from units that
    are evenly spread over it.
    """
    if spec == "char":
        return splits
    if spec != "bpe":
        return []
    total = sum(unit.size for unit in splits[0])
    if total <= tokenizers.SAMPLE_BYTES:
        return splits[:1]
    sample, read, taken = [], 0, 0.0
    for unit in splits[0]:  # as many of the bytes so far as of all
        if taken * total <= read * tokenizers.SAMPLE_BYTES:
            sample.append(unit)
            taken += unit.size
        read += unit.size
    return [sample]


def _texts(unit: Unit, first: bool, options: Options, tell: Tell) -> Iterator[_Text]:
    """The text of a unit. first: whether the units before it have no document."""
    begins, separator = unit.begins_document, "" if first else SEPARATOR
    for piece in read(unit, **options):
        yield _Text(piece.path, separator if begins else "", piece.text, piece.ends_document)
        tell(len(piece.text.encode("utf-8", "surrogatepass")))
        begins = piece.ends_document
        separator = SEPARATOR if begins else separator


def encoded(
    unit: Unit, tokenizer: Tokenizer, first: bool, options: Options, tell: Tell = int
) -> Iterator[EncodedPiece]:
    """The ids of a unit's text, each document followed by the tokenizer's token for that.

    first: whether it is the first unit of its split. Where the tokenizer has no such token, "\\n" comes in front of
    every document of a split but the first. ConfigError for a character that the tokenizer does not know.
    """
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    for batch in _batches(_texts(unit, first, options, tell)):
        texts = [piece.text if end else piece.separator + piece.text for piece in batch]
        for piece, text, ids in zip(batch, texts, _encode(tokenizer, texts, batch), strict=True):
            if end and piece.ends_document:
                ids = np.append(ids, end)
            yield EncodedPiece(ids, len(text.encode()), piece.ends_document)


def _batches(pieces: Iterator[_Text]) -> Iterator[list[_Text]]:
    """Pieces in lists of about _BATCH characters: a tokenizer takes longer for many short texts one by one."""
    batch, length = [], 0
    for piece in pieces:
        batch.append(piece)
        length += len(piece.text) + 1
        if length >= _BATCH:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, texts: list[str], batch: list[_Text]) -> list[Any]:
    """The ids of each text. ConfigError naming the file of the one that cannot be encoded."""
    try:
        return tokenizer.encode_batch(texts)
    except ValueError:
        for text, piece in zip(texts, batch, strict=True):
            try:
                tokenizer.encode(text)
            except ValueError as error:
                advice = "train a tokenizer on these data, or leave the file out"
                raise ConfigError(f"data file {piece.path}: {error}; {advice}") from None
        raise


def require_text(splits: Sequence[Sequence[Unit]], entries: Sequence[Sequence[Entry]]) -> None:
    """ConfigError if the text to train on, or text to validate that was given, has no token. entries: of its shards."""
    for units, made, flag in zip(splits, entries, ("", " of --val-data"), strict=True):
        if (units or not flag) and not any(entry["tokens"] for entry in made):
            raise ConfigError(NO_TEXT.replace("data", f"data{flag}", 1))


def separator_of(tokenizer: Tokenizer) -> str:
    """What stands between two documents, as text."""
    names = {number: name for name, number in tokenizer.special_tokens.items()}
    return SEPARATOR if tokenizer.end_of_text is None else names[tokenizer.end_of_text]


def id_type(tokenizer: Tokenizer) -> str:
    """The dtype of a shard's ids."""
    return "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"


# ------------------------------------------------------------------------------------------ tasks of workers


def _tokenizer_task(
    folder: str, spec: str, vocab_size: int, splits: list[list[dict[str, Any]]], options: Options, tell: Tell
) -> dict[str, Any]:
    """Make the tokenizer.json of a folder."""
    units = [[Unit.from_json(unit) for unit in split] for split in splits]
    write_tokenizer(Path(folder), make_tokenizer(spec, vocab_size, units, options, tell))
    return {}


def _shard_task(folder: str, name: str, unit: dict[str, Any], first: bool, options: Options, tell: Tell) -> Entry:
    """Write a shard of a folder that has its tokenizer.json, and return what the index says of it."""
    tokenizer = loaded(str(Path(folder) / TOKENIZER))
    pieces = encoded(Unit.from_json(unit), tokenizer, first, options, tell)
    return write_shard(folder, name, pieces, id_type(tokenizer))


@functools.lru_cache(maxsize=1)
def loaded(path: str) -> Tokenizer:
    """The tokenizer.json of a folder. ConfigError if it is damaged."""
    try:
        return tokenizers.from_json(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({one_line(error)}); give another --out, or remove the folder") from None


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"tokenizer": _tokenizer_task, "shard": _shard_task}
