"""The folder of a run: what lies where, how it is created, and how a run is found again.

    runs/NAME/config.toml  metrics.jsonl  loss.png  samples/step_*.txt  checkpoints/{latest,best}.safetensors

config.toml appears last when a run is created; a folder without it is not a run.
"""

import dataclasses
import os
from pathlib import Path

import tomli_w

from kernels.system.files import remove_partial, replacing
from tiny_transformer_np.config import SECTIONS, ConfigError, load_toml
from tiny_transformer_np.training import checkpoint

#: may differ when a run is resumed; everything else would make it another run
CHANGEABLE = ("max_steps", "log_interval", "eval_interval", "save_interval", "verify_every", "threads", "dtype",
              "device")  # fmt: skip
DATA = ("data", "val_data")  # may have moved: the checkpoint knows the data by its contents


class Run:
    """Paths of a run folder. Making one touches nothing on disk."""

    def __init__(self, path):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.jsonl"
        self.plot = self.path / "loss.png"
        self.latest = self.path / "checkpoints" / "latest.safetensors"
        self.best = self.path / "checkpoints" / "best.safetensors"

    def sample(self, step):
        return self.path / "samples" / f"step_{step:06d}.txt"

    def post_mortem(self, step):
        """State from which step `step` went wrong."""
        return self.path / "checkpoints" / f"post_mortem_{step:06d}.safetensors"

    def create(self, model_config, training_config):
        """Make the folder; it counts as a run once config.toml is there. ConfigError if it cannot be made."""
        if self.config.exists():
            raise ConfigError(f"{self.path} holds a run already; use --resume {self.path} or another --out-dir")
        self.write_config(model_config, training_config)

    def write_config(self, model_config, training_config):
        """(Re)write config.toml, complete."""
        configs = {"model": model_config, "training": training_config}
        try:
            with replacing(self.config) as partial:
                partial.write_text(tomli_w.dumps({k: _as_table(c) for k, c in configs.items()}), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write to {self.path}: {error.strerror}; choose another --out-dir") from None

    def clean(self):
        """Remove what a kill left half-written."""
        remove_partial(self.path)

    def newest(self):
        """(path, arrays, meta) of the checkpoint with the most steps, or None if there is none yet."""
        found = [(path, *checkpoint.load(path)) for path in (self.latest, self.best) if path.exists()]
        return max(found, key=lambda item: item[2]["step"], default=None)


def _as_table(config):
    values = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def find(path):
    """(Run, checkpoint path or None) from what a person gave: a run folder, or a checkpoint inside one."""
    path = Path(path)
    if path.is_dir():
        run, chosen = Run(path), None
    elif path.exists():
        run, chosen = Run(path.resolve().parent.parent), path
    else:
        raise ConfigError(f"there is no run and no checkpoint at {path}")
    if not run.config.exists():
        raise ConfigError(f"{run.path} is not a run folder: it has no config.toml")
    return run, chosen


def stored_configs(run):
    """(TransformerConfig, TrainingConfig) of a run."""
    tables = load_toml(run.config)
    return tuple(SECTIONS[name](**tables[name]) for name in ("model", "training"))


def changed(config, flags):
    """`config` with what `flags` {field: value} may change on resume; ConfigError naming what it may not."""
    current = dataclasses.asdict(config)
    for name, value in flags.items():
        if name not in CHANGEABLE + DATA and value != current[name]:
            raise ConfigError(
                f"cannot change {name} from {current[name]} to {value} on resume; "
                f"only {', '.join(CHANGEABLE)} may change"
            )
    return dataclasses.replace(config, **{k: v for k, v in flags.items() if k in current})


def newest_checkpoint(path):
    """The checkpoint to generate from: the file itself, or a run's best one, or its latest."""
    path = Path(path)
    if path.is_file():
        return path
    run, _ = find(path)
    for candidate in (run.best, run.latest):
        if candidate.exists():
            return candidate
    raise ConfigError(f"{path} has no checkpoint yet; train a little longer")


def default_path(name, now):
    """runs/NAME-DATE-TIME, with a number behind it where that is taken."""
    base = Path("runs") / f"{name}-{now:%Y%m%d-%H%M%S}"
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def check_writable(path):
    """ConfigError unless a folder at `path` exists and can be written to, or can be made."""
    existing = Path(path).absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write to {path}: {existing} is not a folder that may be written to")
