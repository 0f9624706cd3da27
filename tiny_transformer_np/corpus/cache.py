"""Texts that are given directly become a corpus in the user's cache; the next run with the same texts finds it there.

    $XDG_CACHE_HOME/minigrad/corpora/KEY/    a folder as `prepare` makes it, complete when it appears

KEY is a sha256 of the texts, of how they are read and of the tokenizer. What was not used for 30 days is removed, and
so are those longest unused while all are larger than 10 GB together. Without a cache, or room in it, the corpus lies in
a temporary folder that goes when the process ends.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from kernels.system import cache, locks
from kernels.system.files import StrPath
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import BPE_VOCAB_SIZE, ConfigError
from tiny_transformer_np.corpus.documents import Source, Unit, find_sources, units
from tiny_transformer_np.corpus.encoding import (
    KINDS,
    encoded,
    id_type,
    learned_units,
    make_tokenizer,
    require_text,
    separator_of,
)  # fmt: skip
from tiny_transformer_np.corpus.progress import Checking, Progress, Reading, Silent
from tiny_transformer_np.corpus.shards import INDEX, SPLITS, Corpus, Entry, open_corpus, write_index, write_shard
from tiny_transformer_np.corpus.streams import open_data
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.tokenizers import Tokenizer

VERSION = 1  # of what a key stands for: a change of how text becomes ids needs another
DAY = 24 * 60 * 60.0
OLDEST, MOST_BYTES = 30 * DAY, 10 << 30  # an entry's age since it was used; all entries together
_WITHOUT = "texts are tokenized again at the next start"
_UNFINISHED = ".tmp"  # ends the name of a folder that is being written
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class CachedCorpus:
    """corpus: of the texts; sources: their files, those to train on first; files: a sha256 of each."""

    corpus: Corpus
    sources: list[Source]
    files: list[str]


def cached_corpus(
    data: Sequence[StrPath],
    val_data: Sequence[StrPath] = (),
    tokenizer: str | Tokenizer = "char",
    vocab_size: int = 0,
    field: str = "text",
    keep_marks: bool = False,
    plain: bool = False,
    progress: Progress | None = None,
    trained: Tokenizer | None = None,
) -> CachedCorpus:
    """The corpus of these files: from the cache, or made now in this process, in a bounded amount of memory.

    tokenizer, vocab_size: see `encoding.make_tokenizer`; field: that has the text in .jsonl and .parquet files;
    keep_marks, plain: how files were read by released versions, see `documents.find_sources`; trained: the tokenizer
    that such a call made before, which is used again. ConfigError, in one line, for data that cannot be used; OSError
    where there is no room for a corpus.
    """
    given = tokenizer if isinstance(tokenizer, Tokenizer) or tokenizer in KINDS else tokenizers.load(tokenizer)
    splits = [find_sources(paths, plain=plain, keep_marks=keep_marks) for paths in (data, val_data)]
    sources = [source for split in splits for source in split]
    digests = [_sha256_of(source) for source in sources]
    making = _Making(given, vocab_size, splits, field, progress or Silent())
    if trained:
        place = cache.folder("corpora", _WITHOUT)
        corpus = _opened(place / making.key(digests), making.progress) if place else None
        if corpus and corpus.tokenizer.to_json() == trained.to_json():
            return CachedCorpus(corpus, sources, digests)
        making = dataclasses.replace(making, tokenizer=trained)
    return CachedCorpus(_found_or_made(making, making.key(digests)), sources, digests)


def corpus_of_text(text: str, tokenizer: str | Tokenizer = "char", vocab_size: int = 0) -> Corpus:
    """The corpus of one document that is in memory already, and stays there."""
    if isinstance(tokenizer, str):
        trained = tokenizer in KINDS
        tokenizer = (
            tokenizers.train(tokenizer, [text], vocab_size or BPE_VOCAB_SIZE) if trained else tokenizers.load(tokenizer)
        )
    try:
        ids = tokenizer.encode(text)
    except ValueError as error:
        raise ConfigError(f"the text cannot be used with this tokenizer: {error}") from None
    if tokenizer.end_of_text is not None:
        ids = np.append(ids, [tokenizer.end_of_text])
    tokens = Tokens(ids.astype(id_type(tokenizer)), ends=[len(ids)])
    return Corpus(tokenizer, tokens, None, tokens.digest())


# ------------------------------------------------------------------------------------------ making


@dataclass(frozen=True)
class _Making:
    """What a corpus is made from; splits: files to train on, files to validate."""

    tokenizer: str | Tokenizer
    vocab_size: int
    splits: list[list[Source]]
    field: str
    progress: Progress

    def key(self, digests: Sequence[str]) -> str:
        """The name of the entry. digests: a sha256 of each file."""
        contents = iter(digests)
        files = [[[next(contents), s.format, s.compression, s.keep_marks] for s in split] for split in self.splits]
        if isinstance(self.tokenizer, Tokenizer):
            tokenizer: Any = self.tokenizer.to_json()
        else:
            tokenizer = [self.tokenizer]
            if self.tokenizer == "bpe":
                tokenizer += [self.vocab_size or BPE_VOCAB_SIZE, metadata.version("tokenizers")]
        fields = self.field if any(s.format != "text" for split in self.splits for s in split) else None
        return hashlib.sha256(json.dumps([VERSION, files, tokenizer, fields]).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the corpus into an empty folder."""
        splits, options = [units(sources) for sources in self.splits], {"field": self.field}
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, Tokenizer):
            learned = learned_units(tokenizer, splits)
            with self._shown("tokenizer", learned):
                reading = Reading(self.progress, _size(learned))
                tokenizer = make_tokenizer(tokenizer, self.vocab_size, learned, options, reading)
                reading.end()
        entries: list[list[Entry]] = []
        with self._shown("tokens", splits):
            for split, parts in zip(SPLITS, splits, strict=True):
                entries.append([])
                for number, unit in enumerate(parts):
                    first, reading = (
                        not any(entry["tokens"] for entry in entries[-1]),
                        Reading(self.progress, unit.size),
                    )
                    pieces = encoded(unit, tokenizer, first, options, reading)
                    entries[-1].append(write_shard(folder, f"{split}-{number:05d}", pieces, id_type(tokenizer)))
                    reading.end()
        require_text(splits, entries)
        write_index(folder, tokenizer, id_type(tokenizer), entries[0], entries[1], separator_of(tokenizer))

    @contextlib.contextmanager
    def _shown(self, what: str, splits: Sequence[Sequence[Unit]]) -> Iterator[None]:
        """During the block the progress of reading these units is shown."""
        self.progress.begin(what, _size(splits), 0)
        try:
            yield
        finally:
            self.progress.end()


def _size(splits: Sequence[Sequence[Unit]]) -> int:
    return sum(unit.size for split in splits for unit in split)


def _found_or_made(making: _Making, key: str) -> Corpus:
    """The corpus of this key."""
    place = cache.folder("corpora", _WITHOUT)
    if place is not None:
        if corpus := _opened(place / key, making.progress):
            return corpus
        _prune(place)
        try:
            if corpus := _kept(making, place, key):
                return corpus
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            cache.say(f"{place}: {error.strerror}; {_WITHOUT}")
    folder = cache.temporary() / key
    if not folder.exists():
        with _removed_on_error(folder):
            folder.mkdir()
            making.write(folder)
    return open_corpus(folder)


def _opened(folder: Path, progress: Progress) -> Corpus | None:
    """The corpus in a folder of the cache, which stays as long as this process; None if there is none.

    A damaged one is removed.
    """
    if not locks.use(folder / INDEX):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # it is used
    try:
        return open_corpus(folder, Checking(progress))
    except ConfigError:
        locks.release(folder / INDEX)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _kept(making: _Making, place: Path, key: str) -> Corpus | None:
    """Make an entry of the cache, under another name until it is complete; None if it is gone at once."""
    folder = Path(tempfile.mkdtemp(dir=place, prefix=f"{key[:16]}.", suffix=_UNFINISHED))
    with _removed_on_error(folder):
        making.write(folder)
        try:
            os.rename(folder, place / key)
        except OSError:  # another process made it meanwhile
            shutil.rmtree(folder)
    return _opened(place / key, making.progress)


@contextlib.contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _prune(place: Path) -> None:
    """Remove entries that were not used for long, and parts of entries that killed processes left."""
    now, kept = time.time(), []
    for path in _paths(place):
        with contextlib.suppress(OSError):  # it is gone, or no folder
            age, size = now - os.lstat(path).st_mtime, sum(os.lstat(file).st_size for file in _paths(path))
            if age > (DAY if path.endswith(_UNFINISHED) else OLDEST):
                _remove_unused(path)
            else:
                kept.append((age, path, size))
    total = sum(size for _, _, size in kept)
    for _, path, size in sorted(kept, reverse=True):
        if total > MOST_BYTES and _remove_unused(path):
            total -= size


def _paths(folder: StrPath) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries]


def _remove_unused(path: str) -> bool:
    """Remove an entry unless a process uses it. Returns whether it is gone."""
    with locks.unused(os.path.join(path, INDEX)) as unused:
        if unused:
            shutil.rmtree(path, ignore_errors=True)
        return unused


def _sha256_of(source: Source) -> str:
    try:
        with open_data(source.name, source.path) as opened:
            file: Any = opened  # its type in the standard library's hints lacks `readinto`
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read data file {source.name}: {error.strerror}") from None
