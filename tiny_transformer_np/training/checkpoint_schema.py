"""What a checkpoint must contain. All of it is checked before anything is built from it or changed.

The checksum detects damage, not tampering: it has no key, so a changed file can carry the right checksum.
Every function raises ConfigError with one line that names the value and what was expected.
"""

import dataclasses
import math
import re
from typing import Any, TypeAlias

from kernels.system.printable import brief
from kernels.system.tensors import Header
from tiny_transformer_np.config import SECTIONS, ConfigError, TrainingConfig, TransformerConfig, as_made, renamed, typed
from tiny_transformer_np.model import parameter_shapes
from tiny_transformer_np.tokenizers import KINDS, Tokenizer, from_json

Meta: TypeAlias = dict[str, Any]  # the JSON object of a checkpoint

FORMAT = 1
PREFIXES = ("model.", "adamw.m.", "adamw.v.")  # of the weights and of the optimizer's two arrays for each
MAX_STEP = 1 << 40  # batches are numbered in 64 bits, and a step may have millions
KEYS = {"format", "step", "best_val_loss", "model", "training", "tokenizer", "data", "adamw_steps", "versions"}
DTYPES = {"F32": "float32", "F64": "float64"}  # as the file format spells them, as NumPy does


def check(meta: Meta, header: Header) -> None:
    """Check everything of a checkpoint except the numbers in its arrays. Allocates nothing of the sizes that it names.

    meta: its JSON object; header {name: (dtype, shape)}, dtypes as in DTYPES.
    """
    _check_format(meta)
    step, best = meta["step"], meta["best_val_loss"]
    if type(step) is not int or not 0 <= step <= MAX_STEP:
        raise ConfigError(f"its step is {brief(step)}; expected an integer from 0 to {MAX_STEP}")
    if best is not None and not math.isfinite(typed(best, float, "its best_val_loss")):
        raise ConfigError(f"its best_val_loss is {brief(best)}; expected a finite number or null")
    config, _ = configs(meta)
    tokenizer_of(meta, config)
    _check_data(meta)
    names = _check_arrays(config, header)
    _check_steps(meta, names)


def configs(meta: Meta) -> tuple[TransformerConfig, TrainingConfig]:
    """(TransformerConfig, TrainingConfig) of a checkpoint. For settings new since then see `config.as_made`."""
    return tuple(config(**_settings(meta, section)) for section, config in SECTIONS.items())


def _settings(meta: Meta, section: str) -> dict[str, Any]:
    types = {f.name: f.type for f in dataclasses.fields(SECTIONS[section])}
    table = renamed(_table(meta, section), section, "its settings")
    for key in table:
        if key not in types:
            raise ConfigError(f"its {section} settings have an unknown {brief(key)}; {_other_version(meta)}")
    return as_made(section, {key: typed(value, types[key], f"its {key}") for key, value in table.items()})


def _check_format(meta: Meta) -> None:
    found = meta.get("format")
    if type(found) is not int or found != FORMAT:
        raise ConfigError(f"it has format {brief(found)}; this version reads format {FORMAT}; {_other_version(meta)}")
    if missing := sorted(KEYS - meta.keys()):
        raise ConfigError(f"it has no {missing[0]}")
    if unknown := sorted(meta.keys() - KEYS):
        raise ConfigError(f"it has an unknown {brief(unknown[0])}; {_other_version(meta)}")
    for name, version in _table(meta, "versions").items():
        if not isinstance(version, str) or not re.fullmatch("[ -~]{1,100}", version):
            raise ConfigError(f"its version of {brief(name)} is {brief(version)}; expected one like '3.11.7'")


def _other_version(meta: Meta) -> str:
    """The advice in a message about a file of another version."""
    versions = meta.get("versions")
    version = versions.get("tiny_transformer_np") if isinstance(versions, dict) else None
    which = f" {version}" if isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+]{1,30}", version) else ""
    return f"another version wrote it: use version{which or ' that did'}"


def _table(meta: Meta, key: str) -> dict[str, Any]:
    if not isinstance(meta[key], dict):
        raise ConfigError(f"its {key} is {brief(meta[key])}; expected an object")
    return meta[key]


def tokenizer_of(meta: Meta, config: TransformerConfig) -> Tokenizer:
    """The tokenizer of a checkpoint."""
    table = _table(meta, "tokenizer")
    try:
        tokenizer = from_json(table)
    except ValueError as error:
        advice = "" if table.get("kind", "bpe") in [*KINDS] else f"; {_other_version(meta)}"
        raise ConfigError(f"its tokenizer cannot be used: {error}{advice}") from None
    if tokenizer.vocab_size != config.vocab_size:
        raise ConfigError(f"its tokenizer has {tokenizer.vocab_size} tokens; expected vocab_size {config.vocab_size}")
    return tokenizer


def _check_data(meta: Meta) -> None:
    data = _table(meta, "data")
    if not {"train", "val"} <= data.keys() <= {"train", "val", "files", "byte_order_marks", "plain_text", "corpus"}:
        raise ConfigError(f"its data has the keys {brief(sorted(data))}; expected 'train' and 'val'")
    for name, digest in data.items():
        fits = {
            "files": isinstance(digest, list) and all(isinstance(each, str) for each in digest),
            "byte_order_marks": isinstance(digest, bool),
            "plain_text": isinstance(digest, bool),
            "val": isinstance(digest, str) or digest is None,
        }
        if not fits.get(name, isinstance(digest, str)):
            raise ConfigError(f"its data's {name} is {brief(digest)}; expected a sha256")


def keeps_marks(meta: Meta) -> bool:
    """Whether a byte order mark at the beginning of a file counts as a character, as up to version 0.1.0."""
    data = meta["data"]
    return data.get("byte_order_marks", "\ufeff" in meta["tokenizer"].get("vocabulary", ""))


def reads_plain(meta: Meta) -> bool:
    """Whether every file was read as text, whatever its name, as up to version 0.2.0."""
    data = meta["data"]
    return data.get("plain_text", "corpus" not in data)


def _check_arrays(config: TransformerConfig, header: Header) -> list[str]:
    """The names of the parameters. ConfigError unless all arrays exist, with the config's shapes and one dtype."""
    dtype = next((dtype for dtype, _ in header.values()), None)
    names = []
    for name, shape in parameter_shapes(config):  # ends at the first that is missing, whatever n_layer says
        names.append(name)
        for full in (prefix + name for prefix in PREFIXES):
            if full not in header:
                raise ConfigError(f"it has no array {full}")
            if header[full][1] != shape:
                raise ConfigError(f"its array {full} has shape {brief(header[full][1])}; its config makes it {shape}")
            if header[full][0] != dtype or dtype not in DTYPES:
                raise ConfigError(f"its array {full} holds {brief(header[full][0])}; expected {' or '.join(DTYPES)}")
    if len(header) != len(names) * len(PREFIXES):
        unexpected = min(header.keys() - {prefix + name for prefix in PREFIXES for name in names})
        raise ConfigError(f"it has an array {brief(unexpected)} that its config does not need")
    return names


def _check_steps(meta: Meta, names: list[str]) -> None:
    """ConfigError if AdamW's counts of updates, one a parameter, exceed the number of steps."""
    steps = _table(meta, "adamw_steps")
    if wrong := sorted(steps.keys() ^ set(names)):
        raise ConfigError(f"its adamw_steps do not fit the parameters: {brief(wrong[0])}")
    for name, n in steps.items():
        if type(n) is not int or not 0 <= n <= meta["step"]:
            raise ConfigError(f"its adamw_steps of {name} is {brief(n)}; expected an integer from 0 to {meta['step']}")
