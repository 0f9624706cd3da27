"""The two configurations. Every field is also a flag of train.py and a key of a configs/*.toml file.

Both refuse bad values when they are made, so whoever holds one knows that it is sound.
"""

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from kernels.system.cli import did_you_mean
from kernels.system.errors import UserError
from kernels.system.files import shipped

CONFIGS = shipped(Path(__file__).with_name("configs"), "configs")


class ConfigError(UserError):
    """A setting, a file or a run cannot be used."""


def option(default, help, choices=None):
    """A dataclass field that knows how to explain itself."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the model. vocab_size and block_size follow from the data and from seq_len in train.py."""

    vocab_size: int = option(256, "number of different tokens")
    block_size: int = option(128, "longest context in tokens")
    n_layer: int = option(4, "number of transformer blocks")
    n_head: int = option(4, "attention heads a block")
    n_embd: int = option(128, "width of the model; divisible by n_head")
    dropout: float = option(0.0, "probability of zeroing an activation or an attention weight in training")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tie_weights: bool = option(True, "use the token embedding as output head")
    positions: str = option("learned", "how a token's position is told", ("learned", "sinusoidal"))
    gelu: str = option("tanh", "form of GELU: GPT-2's tanh, or exact", ("tanh", "none"))

    def __post_init__(self):
        _check_choices(self)
        _require_positive(self, "vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.positions == "sinusoidal" and self.n_embd % 2:
            raise ConfigError(f"sinusoidal positions need an even n_embd, not {self.n_embd}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. One step is one update of the weights, on batch_size * grad_accumulation_steps windows."""

    data: tuple[str, ...] = option((), "text files to learn from; none: the manual that comes with Python")
    val_data: tuple[str, ...] = option((), "text files to validate on; none: the last tenth of the data")
    seq_len: int = option(128, "tokens in a window; the model's block_size too")
    stride: int = option(0, "tokens from one window's start to the next; 0: seq_len, no overlap")
    batch_size: int = option(32, "windows in a batch")
    grad_accumulation_steps: int = option(1, "batches whose gradients are added up before an update")
    epochs: int = option(10, "passes over the windows, where max_steps is 0")
    max_steps: int = option(0, "updates to make; 0: as many as `epochs` takes")
    learning_rate: float = option(3e-4, "highest learning rate, reached after warm-up")
    min_lr: float = option(3e-5, "learning rate at the end of the cosine decay")
    warmup_steps: int = option(1000, "updates over which the learning rate rises")
    weight_decay: float = option(0.1, "decoupled decay of matrices; never of biases, norms, embeddings")
    betas: tuple[float, float] = option((0.9, 0.95), "AdamW's two decay rates")
    eps: float = option(1e-8, "AdamW's epsilon")
    grad_clip: float = option(1.0, "largest norm of all gradients together; 0: no clipping")
    log_interval: int = option(10, "updates between two lines of metrics")
    eval_interval: int = option(500, "updates between two evaluations")
    save_interval: int = option(5000, "updates between two checkpoints; one is always saved at the end")
    verify_every: int = option(0, "updates between two checks of a few random nodes of the live graph; 0: none")
    sample_tokens: int = option(300, "tokens of generated text at each evaluation; 0: none")
    seed: int = option(1337, "of weights, order of data, dropout and samples")
    overfit_one_batch: bool = option(False, "train on the first batch only; a sound model's loss goes to nearly 0")
    device: str = option("cpu", "where to compute", ("cpu", "cuda", "cuda-sim"))
    kernels: str = option("fast", "compiled kernels, or plain NumPy to step through", ("fast", "reference"))
    dtype: str = option(
        "float32",
        "what matrix products multiply, and what is kept for backward; weights and sums stay float32",
        ("float32", "bfloat16"),
    )
    threads: int = option(0, "CPU threads for matrix products and kernels together; 0: one a core")

    def __post_init__(self):
        _check_choices(self)
        _require_positive(
            self, "seq_len", "batch_size", "grad_accumulation_steps", "epochs", "log_interval", "eval_interval",
            "save_interval", "learning_rate", "eps",
        )  # fmt: skip
        for name in ("stride", "max_steps", "warmup_steps", "weight_decay", "grad_clip", "min_lr", "sample_tokens",
                     "verify_every", "seed", "threads"):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.weight_decay == float("inf"):
            raise ConfigError(f"weight_decay is {self.weight_decay}; expected a finite number")
        if self.min_lr > self.learning_rate:
            raise ConfigError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}; lower it")
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError(f"betas are {self.betas}; expected two numbers in [0, 1)")


def _require_positive(config, *names):
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise ConfigError(f"{name} is {getattr(config, name)}; expected more than 0")


def _check_choices(config):
    for f in dataclasses.fields(config):
        choices = f.metadata["choices"]
        if choices and getattr(config, f.name) not in choices:
            raise ConfigError(f"{f.name} is {getattr(config, f.name)!r}; expected one of {', '.join(choices)}")


SECTIONS = {"model": TransformerConfig, "training": TrainingConfig}
DERIVED = ("vocab_size", "block_size")  # follow from the data and from seq_len; not to be set by hand


def find_config(path):
    """The path of the settings asked for: as given, or a shipped file by its name, `tiny` or `configs/tiny.toml`."""
    path = Path(path)
    shipped_file = CONFIGS / f"{path.name.removesuffix('.toml')}.toml"
    by_name = path.parent in (Path(), Path("configs")) and not os.path.lexists(path)
    return shipped_file if by_name and os.path.exists(shipped_file) else path


def load_toml(path):
    """Read {"model": {...}, "training": {...}} from a file and check every key's name and type.

    Raises ConfigError naming the file and what is wrong: unreadable, not TOML, unknown key, wrong type.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ConfigError(
            f"there is no config {path}; expected a TOML file, or a shipped one's name: {names}"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} is not valid TOML: {error}") from None
    for section, table in tables.items():
        if section not in SECTIONS or not isinstance(table, dict):
            raise ConfigError(f"config {path}: unknown {section!r}; expected the sections [model] and [training]")
        types = {f.name: f.type for f in dataclasses.fields(SECTIONS[section])}
        for key, value in table.items():
            if key not in types:
                raise ConfigError(f"config {path}: unknown key {key!r} in [{section}]{did_you_mean(key, types)}")
            table[key] = typed(value, types[key], f"config {path}: {key}")
    return {section: tables.get(section, {}) for section in SECTIONS}


def typed(value, type_, where):
    """A TOML or JSON value as the field's type; ConfigError if it is of another kind."""
    if type_ in (tuple[str, ...], tuple[float, float]):
        item = str if type_ == tuple[str, ...] else float
        if not isinstance(value, list):
            raise ConfigError(f"{where} is {value!r}; expected a list")
        return tuple(typed(v, item, where) for v in value)
    if type_ is float and type(value) is int:
        return float(value)
    if type(value) is not type_:
        raise ConfigError(f"{where} is {value!r}; expected {type_.__name__}")
    return value
