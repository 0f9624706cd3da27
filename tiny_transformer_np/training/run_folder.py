"""The folder of a run: its files, how it is created, locked and found.

    runs/NAME/config.toml  metrics.jsonl  loss.png  samples/step_*.txt  checkpoints/{latest,best}.safetensors

A folder without config.toml is not a run. While a run trains, its process holds .train.lock there,
so two processes never write to one folder.
"""

import contextlib
import dataclasses
import datetime
import itertools
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import tomli_w

from kernels.system import cache, files, locks
from kernels.system.files import StrPath
from tiny_transformer_np.config import SECTIONS, ConfigError, TrainingConfig, TransformerConfig, as_made, load_toml
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training import checkpoint_schema as schema
from tiny_transformer_np.training.checkpoint import Arrays
from tiny_transformer_np.training.checkpoint_schema import Meta

Config: TypeAlias = TransformerConfig | TrainingConfig
AnyConfig = TypeVar("AnyConfig", TransformerConfig, TrainingConfig)
Found: TypeAlias = tuple[Path, Arrays, Meta]  # a checkpoint and its contents

#: settings that may change when a run is resumed
CHANGEABLE = ("max_steps", "log_interval", "eval_interval", "save_interval", "verify_every", "threads", "num_workers",
              "dtype", "device")  # fmt: skip
DATA = ("data", "val_data")  # paths may change: the checkpoint has digests of the contents
LOCK = ".train.lock"
NAMES = ("config.toml", "metrics.jsonl", "loss.png", "samples", "checkpoints")  # the program never touches other names
#: {folder: names of the files that are written there, a regular expression}
_WRITTEN = {
    "": r"config\.toml|metrics\.jsonl|loss\.png",
    "samples": r"step_\d{6,}\.txt",
    "checkpoints": r"(?:latest|best|post_mortem_\d{6,})\.safetensors",
}


class Taken(Exception):
    """The folder exists already."""


class Run:
    """Paths of a run folder. Making one touches nothing on disk."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.locked = False  # whether this process holds the lock
        self.config = self.path / "config.toml"
        self.metrics = self.path / "metrics.jsonl"
        self.plot = self.path / "loss.png"
        self.latest = self.path / "checkpoints" / "latest.safetensors"
        self.best = self.path / "checkpoints" / "best.safetensors"

    def sample(self, step: int) -> Path:
        return self.path / "samples" / f"step_{step:06d}.txt"

    def post_mortem(self, step: int) -> Path:
        """State from which step `step` went wrong."""
        return self.path / "checkpoints" / f"post_mortem_{step:06d}.safetensors"

    @contextlib.contextmanager
    def claimed(self, exclusively: bool = False) -> Iterator["Run"]:
        """During the block no other process trains this run. ConfigError if one does, or if the folder cannot be used.

        A missing folder is created, and removed again if it is empty afterwards. exclusively: raises Taken if the
        folder existed before.
        """
        with contextlib.ExitStack() as claims:
            with self._usable():
                self._claim(claims, exclusively)
            if not self.locked:
                cache.say(f"no locks for {self.path} on this system: see to it that no other process trains it too")
            try:
                yield self
            finally:
                self.locked = False

    def _claim(self, claims: contextlib.ExitStack, exclusively: bool) -> None:
        try:
            _, self.locked = locks.hold_folder(claims, self.path, LOCK, new=exclusively)
        except FileExistsError:
            raise Taken(self.path) from None

    def create(self, model_config: TransformerConfig, training_config: TrainingConfig) -> None:
        """Write the config.toml that makes a claimed folder a run."""
        self.clean()
        self.write_config(model_config, training_config)

    def require_unused(self) -> None:
        """ConfigError if the folder holds any name that a run writes."""
        files.status(self.path)  # raises for a path that the system refuses
        taken = [name for name in NAMES if os.path.lexists(self.path / name)]
        if "config.toml" in taken:
            path = shlex.quote(str(self.path))
            raise ConfigError(f"{self.path} holds a run already; use --resume {path} or another --out-dir")
        if taken:
            raise ConfigError(f"{self.path} holds {', '.join(taken)}, which a run would write; use another --out-dir")

    def write_config(self, model_config: TransformerConfig, training_config: TrainingConfig) -> None:
        """(Re)write config.toml, complete."""
        configs: dict[str, Config] = {"model": model_config, "training": training_config}
        with self._usable(), files.replacing(self.config) as partial:
            partial.write_text(tomli_w.dumps({k: _as_table(c) for k, c in configs.items()}), encoding="utf-8")

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except locks.Held:
            raise ConfigError(f"another process is training {self.path}; wait until it has ended") from None
        except OSError as error:
            if not files.is_of_the_path(error):
                raise
            advice = "" if os.path.exists(self.config) else "; choose another --out-dir"
            raise ConfigError(f"cannot write to {self.path}: {error.strerror}{advice}") from None

    def clean(self) -> None:
        """Remove temporary files of killed processes. Without a lock they stay: another process may be writing them."""
        if self.locked:
            for folder, names in _WRITTEN.items():
                until_0_1 = rf"({names})\.partial" + (r"|\.tmp[0-9A-Za-z]{6}" if folder == "checkpoints" else "")
                files.remove_partial(self.path / folder, names, until_0_1)

    def newest(self) -> Found | None:
        """(path, arrays, meta) of the checkpoint with the most steps, or None if there is none yet."""
        found = [(path, *checkpoint.load(path)) for path in (self.latest, self.best) if files.status(path)]
        return max(found, key=lambda item: item[2]["step"], default=None)


def _as_table(config: Config) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def find(path: StrPath) -> tuple[Run, Path | None]:
    """(Run, checkpoint path or None) of a path on the command line: a run folder, or a checkpoint inside one."""
    path = Path(path)
    if files.is_folder(path):
        run, chosen = Run(path), None
    elif files.status(path):
        run, chosen = Run(path.resolve().parent.parent), path
    else:
        raise ConfigError(f"there is no run and no checkpoint at {path}")
    if not files.status(run.config):
        raise ConfigError(f"{run.path} is not a run folder: it has no config.toml")
    return run, chosen


def stored_configs(run: Run) -> tuple[TransformerConfig, TrainingConfig]:
    """(TransformerConfig, TrainingConfig) of a run."""
    tables = load_toml(run.config)
    return tuple(SECTIONS[name](**as_made(name, tables[name])) for name in ("model", "training"))


def changed(config: AnyConfig, flags: dict[str, Any]) -> AnyConfig:
    """`config` changed by `flags` {field: value}; ConfigError names a field that may not change on resume."""
    current = dataclasses.asdict(config)
    for name, value in flags.items():
        if name not in CHANGEABLE + DATA and value != current[name]:
            raise ConfigError(
                f"cannot change {name} from {current[name]} to {value} on resume; "
                f"only {', '.join(CHANGEABLE)} may change"
            )
    return dataclasses.replace(config, **{k: v for k, v in flags.items() if k in current})


def require_trained_with(run: Run, configs: Sequence[Config], found: Found) -> None:
    """ConfigError, naming the setting, if config.toml was edited and differs from the checkpoint.

    configs: (TransformerConfig, TrainingConfig) of config.toml; found: (path, arrays, meta) of the checkpoint.
    """
    path, _, meta = found
    trained_with: Sequence[Config] = schema.configs(meta)
    for config, stored in zip(configs, trained_with, strict=True):
        for name, value in _as_table(config).items():
            trained = _as_table(stored)[name]
            if name not in CHANGEABLE + DATA and value != trained:
                raise ConfigError(
                    f"{name} is {value} in {run.config}, but {path} was trained with {trained}: put that back, or "
                    f"start another run; only {', '.join(CHANGEABLE)} may change on resume"
                )


def newest_checkpoint(path: StrPath) -> Path:
    """The checkpoint to generate from: the file itself, or a run's best one, or its latest."""
    path = Path(path)
    if files.is_file(path):
        return path
    run, _ = find(path)
    for candidate in (run.best, run.latest):
        if files.status(candidate):
            return candidate
    raise ConfigError(f"{path} has no checkpoint yet; train a little longer")


def default_run(claims: contextlib.ExitStack, name: str, now: datetime.datetime) -> Run:
    """A new Run, claimed while `claims` is open: runs/NAME-DATE-TIME, with a number behind it where that is taken."""
    base = Path("runs") / f"{name}-{now:%Y%m%d-%H%M%S}"
    run, numbers = Run(base), itertools.count(2)
    while True:
        with contextlib.suppress(Taken):
            return claims.enter_context(run.claimed(exclusively=True))
        run = Run(base.with_name(f"{base.name}-{next(numbers)}"))
