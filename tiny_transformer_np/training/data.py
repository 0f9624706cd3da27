"""The data of a run, whatever they are given as, and the tokenizer of their ids.

texts          files, folders, patterns, *.jsonl ...: tokenized once, into the user's cache
prepared       a folder that `python -m tiny_transformer_np.training.prepare` made
ids            train.bin and val.bin of nanoGPT, .bin files of llm.c
none           the manual that comes with Python
"""

import dataclasses
import functools
import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.system.files import StrPath, is_file, is_folder
from kernels.system.printable import did_you_mean
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import BPE_VOCAB_SIZE, TOKENIZERS, ConfigError, TrainingConfig
from tiny_transformer_np.corpus.cache import CachedCorpus, cached_corpus, corpus_of_text
from tiny_transformer_np.corpus.foreign import is_foreign, open_foreign
from tiny_transformer_np.corpus.plan import PLAN
from tiny_transformer_np.corpus.progress import Checking
from tiny_transformer_np.corpus.shards import INDEX, TOKENIZER, Corpus, is_corpus, open_corpus, prepare_command
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.tokenizers import CharTokenizer, Tokenizer
from tiny_transformer_np.training.checkpoint_schema import Meta, keeps_marks, reads_plain
from tiny_transformer_np.training.data_identity import Identity, describe, digest_of_ids, digests_of_files
from tiny_transformer_np.training.dataset import python_manual
from tiny_transformer_np.training.progress import ByteProgress

AUTO = TOKENIZERS[0]
TEXTS, PREPARED, IDS = "texts", "a prepared folder", "files of ids"


@dataclass(frozen=True)
class Data:
    """Tokens to train on and to validate.

    validated: where the validation part comes from, "" for the last tenth; has_documents: whether their ends are known;
    notes: lines for a person.
    """

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    identity: Identity
    validated: str = ""
    has_documents: bool = True
    notes: tuple[str, ...] = ()


def load_data(config: TrainingConfig, made_with: Meta | None = None) -> Data:
    """The data that a TrainingConfig names. made_with: of the checkpoint that a run goes on from.

    The tokenizer of a checkpoint is used again, never trained again. ConfigError, one line, for data that cannot be
    used.
    """
    if made_with:
        _require_there(config)
    if made_with and reads_plain(made_with):
        return _of_texts(config, made_with)
    kind = _kind(config.data, "--data") if config.data else TEXTS
    if config.val_data and (other := _kind(config.val_data, "--val-data")) != kind:
        raise ConfigError(_other_kind(config, kind, other))
    if kind == TEXTS:
        return _of_texts(config, made_with)
    return _of_prepared(config) if kind == PREPARED else _of_ids(config, made_with)


# --------------------------------------------------------------------------------------- what is given


def _kind(paths: Sequence[str], flag: str) -> str:
    """TEXTS, PREPARED or IDS. ConfigError if they are of several kinds."""
    kinds: dict[str, str] = {}
    for path in paths:
        kinds.setdefault(kind_of(path), path)
    if len(kinds) > 1:
        (first, a), (second, b) = list(kinds.items())[:2]
        texts = [path for path in paths if kind_of(path) == TEXTS] or ["TEXTS..."]
        raise ConfigError(
            f"{flag} has {first} ({a}) and {second} ({b}); give one kind: one prepared folder of all texts, say, by "
            f"`{prepare_command(paths=texts[:3])}`"
        )
    return next(iter(kinds))


def kind_of(path: StrPath) -> str:
    """What a path of --data means: TEXTS, PREPARED or IDS. ConfigError for a folder whose preparation was not ended."""
    folder = Path(path)
    if is_folder(folder) and (is_file(folder / PLAN) or (is_corpus(folder) and not _is_of_another(folder))):
        if not is_file(folder / INDEX):
            raise ConfigError(
                f"the preparation of {folder} was begun and is not finished: give its command once more, it goes on "
                f"where it was: `{prepare_command(folder)}`"
            )
        return PREPARED
    if is_folder(folder) and is_file(folder / "config.toml") and is_file(folder / "metrics.jsonl"):
        raise ConfigError(f"{folder} is the folder of a run; --resume {folder} goes on with it")
    if _is_part(folder):
        raise ConfigError(f"{folder} is a part of the prepared folder {folder.parent}; give --data {folder.parent}")
    matches = _matches(path)
    return IDS if all(map(is_foreign, matches)) and matches else TEXTS


def _matches(path: StrPath) -> list[str]:
    """The paths that a pattern such as `train_*.bin` matches, sorted; of any other path that itself."""
    pattern = glob.has_magic(str(path)) and not os.path.lexists(path)
    return sorted(glob.glob(str(path), recursive=True)) if pattern else [str(path)]


def _is_part(path: Path) -> bool:
    """Whether a path is a file that `prepare` wrote."""
    of_ids = re.fullmatch(r"(train|val)-\d{5,}\.(bin|borders)", path.name)
    return bool(of_ids or path.name in (INDEX, TOKENIZER, PLAN)) and is_file(path.parent / PLAN) and is_file(path)


def _require_there(config: TrainingConfig) -> None:
    """ConfigError if data of a run that goes on are gone."""
    for path in (*config.data, *config.val_data):
        if not glob.has_magic(path) and not os.path.lexists(path):
            raise ConfigError(f"{path}, which this run is trained on, is not there; if it was moved, give --data NEW")


def _is_of_another(folder: Path) -> bool:
    """Whether a folder of texts has an index.json of its own."""
    return not (is_file(folder / TOKENIZER) or any(folder.glob("train-*.bin")))


def _other_kind(config: TrainingConfig, kind: str, other: str) -> str:
    if not config.data:
        return f"--val-data are {other} ({config.val_data[0]}), and the manual is text; give --data of the same kind"
    data, val = config.data[0], config.val_data[0]
    if IDS in (kind, other):
        return f"--data are {kind} ({data}) and --val-data {other} ({val}); give --val-data of the same kind"
    prepared, texts = (data, val) if kind == PREPARED else (val, data)
    command = prepare_command(paths=[texts], tokenizer=Path(prepared) / TOKENIZER)
    return f"{prepared} is prepared and {texts} is not; prepare it with the same tokenizer, and give that: `{command}`"


# --------------------------------------------------------------------------------------- each kind


def _of_texts(config: TrainingConfig, made_with: Meta | None) -> Data:
    """Of files of text, or of the manual."""
    stored = tokenizers.from_json(made_with["tokenizer"]) if made_with else None
    name = config.tokenizer if config.tokenizer != AUTO else "char"
    tokenizer: str | Tokenizer = name
    if name not in TOKENIZERS:
        tokenizer = stored or _loaded(name)
    trained = stored if name == "bpe" else None  # characters are collected again: one that is new can be named
    if not stored:
        _require_vocab_size(config, tokenizer)
    keep_marks = made_with is not None and keeps_marks(made_with)
    plain = made_with is not None and reads_plain(made_with)
    read = functools.partial(
        cached_corpus, vocab_size=config.vocab_size, field=config.field, keep_marks=keep_marks, plain=plain,
        progress=ByteProgress(),
    )  # fmt: skip
    cached: CachedCorpus | None
    if config.data:
        cached = read(config.data, config.val_data, tokenizer, trained=trained)
        corpus = cached.corpus
    else:
        corpus, cached = _of_manual(config, trained or tokenizer, read)
    paths, files = ([source.name for source in cached.sources], cached.files) if cached else ([], [])
    train, val = _split(corpus)
    asked, notes = config.vocab_size or BPE_VOCAB_SIZE, corpus.notes
    if tokenizer == "bpe" and not stored and corpus.tokenizer.vocab_size < asked:
        notes += (f"the data have word pieces for a vocabulary of {corpus.tokenizer.vocab_size:,}, not {asked:,}",)

    @functools.cache
    def digests() -> Meta:
        return {"train": digest_of_ids(train), "val": digest_of_ids(val), "files": digests_of_files(files),
                "byte_order_marks": keep_marks, "plain_text": plain}  # fmt: skip

    validated = "--val-data" if config.val_data else ""
    return Data(corpus.tokenizer, train, val, Identity(digests, paths), validated, notes=notes)


def _of_manual(
    config: TrainingConfig, tokenizer: str | Tokenizer, read: Callable[..., CachedCorpus]
) -> tuple[Corpus, CachedCorpus | None]:
    """The manual of Python as a Corpus, and the files that validate if there are any; read: as `cached_corpus`."""
    text, validating = python_manual(), None
    if config.val_data and tokenizer == "char":  # the characters of both
        found = read(config.val_data).corpus.tokenizer
        assert isinstance(found, CharTokenizer)
        tokenizer = CharTokenizer.from_text(text, found.vocabulary)
    corpus = corpus_of_text(text, tokenizer, config.vocab_size)
    if config.val_data:
        validating = read(config.val_data, tokenizer=corpus.tokenizer)
        corpus = dataclasses.replace(corpus, val=validating.corpus.train)
    return corpus, validating


def _of_prepared(config: TrainingConfig) -> Data:
    for flag, paths in (("--data", config.data), ("--val-data", config.val_data)):
        if len(paths) > 1:
            raise ConfigError(f"{flag} has {len(paths)} prepared folders; give one: prepare all texts together")
    folder = config.data[0]
    corpus = open_corpus(folder, Checking(ByteProgress()))
    _require_tokenizer(config, corpus.tokenizer, folder)
    if not config.val_data:
        return _of_corpus(corpus, f"the validation part of {folder}" if corpus.val is not None else "")
    other = open_corpus(config.val_data[0], Checking(ByteProgress()))
    if other.tokenizer.to_json() != corpus.tokenizer.to_json():
        command = prepare_command(tokenizer=Path(folder) / TOKENIZER)
        raise ConfigError(f"{config.val_data[0]} was prepared with another tokenizer than {folder}; use `{command}`")
    return _of_corpus(Corpus(corpus.tokenizer, corpus.train, other.train, corpus.digest), "--val-data")


def _of_ids(config: TrainingConfig, made_with: Meta | None) -> Data:
    if config.tokenizer in TOKENIZERS and config.tokenizer != AUTO:
        raise ConfigError(
            f"{config.data[0]} has ids that a tokenizer made already; give its file, --tokenizer FILE, or leave "
            f"--tokenizer {config.tokenizer} out"
        )
    tokenizer = None
    if made_with:
        tokenizer = tokenizers.from_json(made_with["tokenizer"])
    elif config.tokenizer != AUTO:
        tokenizer = _loaded(config.tokenizer)
        _require_vocab_size(config, tokenizer)
    data, val_data = ([match for path in paths for match in _matches(path)] for paths in (config.data, config.val_data))
    corpus = open_foreign(data, val_data, tokenizer, config.vocab_size, Checking(ByteProgress()))
    beside = "val.bin" if corpus.val is not None else ""
    return _of_corpus(corpus, "--val-data" if config.val_data else beside, has_documents=False)


def _of_corpus(corpus: Corpus, validated: str, has_documents: bool = True) -> Data:
    train, val = _split(corpus)

    def digests() -> Meta:
        return {"train": train.digest(), "val": val.digest(), "corpus": corpus.digest}

    return Data(corpus.tokenizer, train, val, Identity(digests), validated, has_documents, corpus.notes)


def _split(corpus: Corpus) -> tuple[Tokens, Tokens]:
    """(tokens to train on, tokens to validate): without a part to validate, the last tenth."""
    if corpus.val is not None:
        return corpus.train, corpus.val
    n = len(corpus.train)
    cut = int(0.9 * n)
    return corpus.train.part(0, cut), corpus.train.part(cut, n)


def _loaded(path: str) -> Tokenizer:
    """The tokenizer of a file. ConfigError that names the kinds if there is no such file."""
    if not os.path.lexists(path):
        raise ConfigError(
            f"there is no tokenizer {path}; expected {', '.join(TOKENIZERS)}, a tokenizer.json, or a folder with "
            f"vocab.json and merges.txt{did_you_mean(Path(path).name, TOKENIZERS)}"
        )
    return tokenizers.load(path)


# --------------------------------------------------------------------------------------- what does not fit


def _require_tokenizer(config: TrainingConfig, own: Tokenizer, folder: str) -> None:
    """ConfigError if settings ask for another tokenizer than a prepared folder's."""
    name = config.tokenizer
    fits = name in (AUTO, own.kind)
    if name not in TOKENIZERS:
        fits = _loaded(name).to_json() == own.to_json()
    if not fits or config.vocab_size not in (0, own.vocab_size):
        asked = f"tokenizer {name}" if not fits else f"a vocabulary of {config.vocab_size:,}"
        raise ConfigError(
            f"{folder} was prepared with {describe(own)}, not {asked}; leave --tokenizer and --vocab-size out, or "
            "prepare the text again"
        )


def _require_vocab_size(config: TrainingConfig, tokenizer: str | Tokenizer) -> None:
    """ConfigError if a size is asked for of a vocabulary that has its own."""
    if not config.vocab_size or tokenizer == "bpe":
        return
    if isinstance(tokenizer, str):
        raise ConfigError(
            f"vocab_size {config.vocab_size} is for --tokenizer bpe; with tokenizer {tokenizer} leave --vocab-size out"
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise ConfigError(
            f"vocab_size is {config.vocab_size}, but {config.tokenizer} has {tokenizer.vocab_size} tokens; leave it out"
        )
