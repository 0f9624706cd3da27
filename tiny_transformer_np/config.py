"""The two configurations. Every field is also a flag of train.py and a key of a configs/*.toml file.

Both check their values when they are made and raise ConfigError, so an instance is always valid.
"""

import dataclasses
import math
import numbers
import operator
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.system.cli import complain
from kernels.system.errors import UserError
from kernels.system.files import StrPath, open_regular, shipped
from kernels.system.printable import brief, did_you_mean
from tiny_transformer_np.other_names import as_flag, name_here

CONFIGS = shipped(Path(__file__).with_name("configs"), "configs")

SIZE = 2**31 - 1  # the largest length of one axis of an array: kernels count in 32 bits there
COUNT = 2**63 - 1  # the largest number of steps or tokens: what TOML and NumPy hold
REAL = 3.4e38  # the largest real number: weights are float32
TINY = 1.2e-38  # the smallest that float32 holds in full
TOKENIZERS = ("auto", "char", "byte", "bpe")  # that need no file; the first is the default
BPE_VOCAB_SIZE = 8192  # where none is asked for
LARGEST_CONFIG = 1 << 20  # characters of a config.toml
_MOST_DOTS = 1000  # in a line: TOML's reader takes the square of a dotted key's length


class ConfigError(UserError):
    """A setting, a file or a run cannot be used."""


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    aliases: tuple[str, ...] = (),
    before: Any = None,
) -> Any:
    """A dataclass field with a help text, and the range of its values: `low` to `high`.

    aliases: short names of its flag. before: its value in runs made before the setting existed; None: the default.
    """
    known = {"help": help, "choices": choices, "low": low, "high": high, "aliases": aliases, "before": before}
    return field(default=default, metadata=known)


def size(default: int, help: str, low: int = 1, **known: Any) -> Any:
    """An option that is the length of an axis."""
    return option(default, help, low=low, high=SIZE, **known)


def count(default: int, help: str, low: int = 0, **known: Any) -> Any:
    """An option that counts steps, tokens or windows."""
    return option(default, help, low=low, high=COUNT, **known)


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the model. vocab_size and block_size follow from the data and from seq_len in train.py."""

    vocab_size: int = size(256, "number of different tokens")
    block_size: int = size(128, "longest context in tokens")
    n_layer: int = size(4, "number of transformer blocks")
    n_head: int = size(4, "attention heads a block")
    n_embd: int = size(128, "width of the model; divisible by n_head")
    dropout: float = option(0.0, "probability of zeroing an activation or an attention weight in training")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tie_weights: bool = option(True, "use the token embedding as output head")
    positions: str = option("learned", "how a token's position is told", ("learned", "sinusoidal"))
    gelu: str = option("tanh", "form of GELU: GPT-2's tanh, or exact", ("tanh", "none"))

    def __post_init__(self) -> None:
        _check(self)
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.positions == "sinusoidal" and self.n_embd % 2:
            raise ConfigError(f"sinusoidal positions need an even n_embd, not {self.n_embd}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. One step is one update of the weights, on batch_size * grad_accumulation_steps windows."""

    data: tuple[str, ...] = option(
        (),
        "texts (files, folders, *.jsonl ...), a prepared folder or .bin files; none: the manual that comes with Python",
    )
    val_data: tuple[str, ...] = option(
        (), "the same, to validate on; none: the part of the data made for that, or their last tenth"
    )
    tokenizer: str = option(
        "auto", "char, byte, bpe (learned from the data) or a tokenizer's file; auto: that of prepared data, else char"
    )
    vocab_size: int = size(
        0, f"of the vocabulary that bpe learns, 0: {BPE_VOCAB_SIZE:,}; or of .bin files' ids, 0: the largest + 1", low=0
    )
    field: str = option("text", "the key of a .jsonl line, or the column of a .parquet file, that is the text")
    seq_len: int = size(128, "tokens in a window; the model's block_size too", aliases=("ctx",))
    stride: int = count(0, "tokens from one window's start to the next; 0: seq_len, no overlap")
    cross_documents: bool = option(True, "windows may reach from one document into the next")
    batch_size: int = size(32, "windows in a batch", aliases=("bs", "batch"))
    grad_accumulation_steps: int = size(1, "batches whose gradients are added up before an update")
    epochs: int = count(10, "passes over the windows, where max_steps is 0", low=1)
    max_steps: int = count(0, "updates to make; 0: as many as `epochs` takes", aliases=("steps",))
    learning_rate: float = option(
        3e-4, "highest learning rate, reached after warm-up", low=TINY, high=REAL, aliases=("lr",)
    )
    min_lr: float = option(3e-5, "learning rate at the end of the cosine decay", low=0, high=REAL)
    warmup_steps: int = count(1000, "updates over which the learning rate rises")
    weight_decay: float = option(
        0.1, "decoupled decay of matrices; never of biases, norms, embeddings", low=0, high=REAL, aliases=("wd",)
    )
    betas: tuple[float, float] = option((0.9, 0.95), "AdamW's two decay rates")
    eps: float = option(1e-8, "AdamW's epsilon", low=TINY, high=REAL)
    grad_clip: float = option(1.0, "largest norm of all gradients together; 0: no clipping", low=0)
    log_interval: int = count(10, "updates between two lines of metrics", low=1)
    eval_interval: int = count(500, "updates between two evaluations", low=1)
    eval_tokens: int = count(
        1_000_000, "validation tokens that an evaluation looks at, in windows spread evenly; 0: all", before=0
    )
    save_interval: int = count(5000, "updates between two checkpoints; one is always saved at the end", low=1)
    verify_every: int = count(0, "updates between two checks of a few random nodes of the live graph; 0: none")
    sample_tokens: int = count(300, "tokens of generated text at each evaluation; 0: none")
    seed: int = option(1337, "of weights, order of data, dropout and samples", low=0, high=2**64 - 1)
    overfit_one_batch: bool = option(False, "train on the first batch only; a correct model's loss goes to nearly 0")
    device: str = option("cpu", "where to compute", ("cpu", "cuda", "cuda-sim"))
    kernels: str = option("fast", "compiled kernels, or plain NumPy to step through", ("fast", "reference"))
    dtype: str = option(
        "float32",
        "what matrix products multiply, and what is kept for backward; weights and sums stay float32",
        ("float32", "bfloat16"),
    )
    threads: int = count(0, "CPU threads for matrix products and kernels together; 0: one a core")
    num_workers: int = option(0, "threads that fetch batches ahead; 0: each step fetches its own", low=0, high=1024)

    def __post_init__(self) -> None:
        _check(self)
        if self.min_lr > self.learning_rate:
            raise ConfigError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}; lower it")
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError(f"betas are {brief(self.betas)}; expected two numbers in [0, 1)")


def _check(config: TransformerConfig | TrainingConfig) -> None:
    """ConfigError unless every field has exactly its type and a value in its range."""
    for f in dataclasses.fields(config):
        value = typed(getattr(config, f.name), f.type, f.name)
        object.__setattr__(config, f.name, value)  # lists become tuples, NumPy's numbers Python's
        choices, low, high = (f.metadata[key] for key in ("choices", "low", "high"))
        if choices and value not in choices:
            raise ConfigError(f"{f.name} is {brief(value)}; expected one of {', '.join(choices)}")
        if low is not None and not value >= low:  # also when it is NaN
            expected = f"{low} or more" if low != TINY else f"more than 0, at least {TINY}"
            raise ConfigError(f"{f.name} is {brief(value)}; expected {expected}")
        if high is not None and not value <= high:
            raise ConfigError(f"{f.name} is {brief(value)}; expected at most {high}")


SECTIONS = {"model": TransformerConfig, "training": TrainingConfig}
#: settings that had another name in a released version: {section: {old: new}}; see tests/released/README.md
RENAMED: dict[str, dict[str, str]] = {"model": {}, "training": {}}
DERIVED = ("vocab_size", "block_size")  # follow from the data and from seq_len; not to be set by hand


def find_config(path: StrPath) -> Path:
    """The path of the settings asked for: as given, or a shipped file by its name, `tiny` or `configs/tiny.toml`."""
    path = Path(path)
    shipped_file = CONFIGS / f"{path.name.removesuffix('.toml')}.toml"
    by_name = path.parent in (Path(), Path("configs")) and not os.path.lexists(path)
    return shipped_file if by_name and os.path.exists(shipped_file) else path


def load_toml(path: StrPath) -> dict[str, dict[str, Any]]:
    """Read {"model": {...}, "training": {...}} from a file and check every key's name and type.

    A renamed key is accepted, with a note on stderr. Raises ConfigError naming the file and what is wrong:
    unreadable, not TOML, unknown key, wrong type.
    """
    text = _text(path)
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(
            f"config {path} is nested too deeply; expected [model] and [training], keys and values"
        ) from None
    except ValueError as error:  # not TOML, or an integer of thousands of digits
        raise ConfigError(f"config {path} is not valid TOML: {error}") from None
    for section, table in tables.items():
        if section not in SECTIONS or not isinstance(table, dict):
            expected = "expected the sections [model] and [training]"
            raise ConfigError(f"config {path}: unknown {brief(section)}; {expected}{_hint(section, '')}")
        types = {f.name: f.type for f in dataclasses.fields(SECTIONS[section])}
        table = tables[section] = renamed(table, section, f"config {path}", lambda line: complain("note", line))
        for key, value in table.items():
            if key not in types:
                raise ConfigError(f"config {path}: unknown key {brief(key)} in [{section}]{_hint(key, section)}")
            table[key] = typed(value, types[key], f"config {path}: {key}")
    return {section: tables.get(section, {}) for section in SECTIONS}


def _hint(key: str, section: str) -> str:
    """The end of a message about a key that `section` does not have; "": one above all sections."""
    fields = {f.name: where for where, config in SECTIONS.items() for f in dataclasses.fields(config)}
    if key in fields:
        return f"; it belongs into [{fields[key]}]"

    def spelled(name: str) -> str:
        other = f" in [{fields[name]}]" if fields.get(name, section) != section else ""
        return f"{name}{other}" if name in fields else as_flag(name)

    return name_here(key, spelled) or did_you_mean(key, (name for name in fields if fields[name] == section))


def _text(path: StrPath) -> str:
    """The text of a config file. ConfigError if it cannot be read, or if TOML's reader would take minutes for it."""
    try:
        with open_regular(path, encoding="utf-8-sig") as file:
            text = file.read(LARGEST_CONFIG + 1)
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ConfigError(
            f"there is no config {path}; expected a TOML file, or a shipped one's name: {names}"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path} is not valid TOML: {error}") from None
    if len(text) > LARGEST_CONFIG:
        raise ConfigError(f"config {path} has more than {LARGEST_CONFIG:,} characters; expected a few settings")
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise ConfigError(f"config {path} has a line with more than {_MOST_DOTS:,} dots; break the line")
    return text


def as_made(section: str, table: dict[str, Any]) -> dict[str, Any]:
    """`table` {key: value} of a run on disk, with the settings that its version did not have yet."""
    before = {f.name: f.metadata["before"] for f in dataclasses.fields(SECTIONS[section])}
    return {**{name: value for name, value in before.items() if value is not None}, **table}


def renamed(
    table: dict[str, Any], section: str, where: str, note: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """`table` {key: value} with old names of settings replaced. ConfigError if it has the old and the new name."""
    names = RENAMED[section]
    for old in names.keys() & table.keys():
        if names[old] in table:
            raise ConfigError(f"{where} has both {old} and {names[old]}, its new name; remove {old}")
        if note:
            note(f"{where}: {old} is called {names[old]} now")
    return {names.get(key, key): value for key, value in table.items()}


def typed(value: Any, type_: Any, where: str) -> Any:
    """A value from TOML, JSON or a program, converted to the field's type; ConfigError if it has another type.

    An int is accepted for a float, a list for a tuple, a path for a str, NumPy's numbers for Python's; a bool is not
    accepted for an int.
    """
    if type_ in (tuple[str, ...], tuple[float, float]):
        item = str if type_ == tuple[str, ...] else float
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {brief(value)}; expected a list")
        return tuple(typed(v, item, where) for v in value)
    converted = _converted(value, type_)
    if type(converted) is not type_:
        raise ConfigError(f"{where} is {brief(value)}; expected {type_.__name__}")
    return converted


def _converted(value: Any, type_: type) -> Any:
    """`value` converted to type_ if the result is equal, else `value`."""
    if isinstance(value, bool):
        return value
    if type_ is int and isinstance(value, numbers.Integral):
        return operator.index(value)
    if type_ is float and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond 1.8e308
            return math.inf
    if type_ is str and isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value))
    return value
