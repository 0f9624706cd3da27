"""One training step with the settings of a command line, for `python -m minigrad.compare_steps`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import kernels as kernel_sets
from kernels.system.files import StrPath
from minigrad._tensor import Tensor
from tiny_transformer_np.config import ConfigError, TrainingConfig, load_toml
from tiny_transformer_np.training import checkpoint as checkpoints
from tiny_transformer_np.training.build_trainer import build_trainer
from tiny_transformer_np.training.run_folder import find, stored_configs


def make_step(
    kernels: str = "fast",
    dtype: str = "float32",
    checkpoint: StrPath | None = None,
    config: StrPath = "configs/default.toml",
    step: int | str | None = None,
) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    """(make_loss, {name: Parameter}) of one step.

    checkpoint: a run folder or a checkpoint in one, whose next step it is; else the first step of `config`, with
    fresh weights. dtype: "float32" or "float64", of weights and arithmetic. step: the number of the batch.
    """
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"dtype is {dtype!r}; expected float32 or float64")
    kernel_sets.select(kernels)
    if checkpoint:
        run, chosen = find(checkpoint)
        model_config, training_config = stored_configs(run)
        found = (chosen, *checkpoints.load(chosen)) if chosen else run.newest()
        trainer = build_trainer(dataclasses.asdict(model_config), training_config)
        if found:
            trainer.restore(*found)
    else:
        tables = load_toml(Path(config))
        trainer = build_trainer(tables["model"], TrainingConfig(**tables["training"]))
    trainer.model.astype(dtype)
    number = int(step) if step else trainer.step + 1
    return lambda: trainer.loss_of(number, micro=0), dict(trainer.model.named_parameters())
