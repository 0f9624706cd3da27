"""A Trainer from settings: finds the data and their tokenizer, makes the datasets and the model."""

from collections.abc import Callable
from typing import Any

from kernels.system import cli
from minigrad import random
from tiny_transformer_np.config import ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.checkpoint_schema import Meta
from tiny_transformer_np.training.data import Data, load_data
from tiny_transformer_np.training.dataset import TextDataset
from tiny_transformer_np.training.progress import Progress
from tiny_transformer_np.training.run_folder import Run
from tiny_transformer_np.training.trainer import Trainer


def build_trainer(
    model_settings: dict[str, Any],
    config: TrainingConfig,
    run: Run | None = None,
    progress: Progress | None = None,
    before_weights: Callable[[TransformerConfig, tuple[int, int]], object] | None = None,
    made_with: Meta | None = None,
) -> Trainer:
    """A Trainer with fresh weights, the same for the same seed.

    model_settings: fields of TransformerConfig, of which vocab_size and block_size follow from the data and from
    seq_len; config: TrainingConfig; before_weights: called with the TransformerConfig and the numbers of tokens to
    train on and to validate, before anything of the model's size is allocated; made_with: of the checkpoint that the
    run goes on from, see `load_data`.
    Raises ConfigError for data or settings that cannot be used.
    """
    data = load_data(config, made_with)
    require_enough(data, config)
    train_data = TextDataset(data.train, data.tokenizer, config.seq_len, config.stride, config.cross_documents)
    val_data = TextDataset(data.val, data.tokenizer, config.seq_len, cross_documents=config.cross_documents)
    settings = with_derived(model_settings, vocab_size=data.tokenizer.vocab_size, block_size=config.seq_len)
    model_config = TransformerConfig(**settings)
    if before_weights:
        before_weights(model_config, (len(data.train), len(data.val)))
    random.seek(config.seed)
    trainer = Trainer(TransformerLM(model_config), train_data, val_data, config, run, progress)
    trainer.identity = data.identity
    for note in data.notes:
        cli.complain("note", note)
    return trainer


def require_enough(data: Data, config: TrainingConfig) -> None:
    """ConfigError unless each part of the data has a window of seq_len tokens and its target."""
    if not config.cross_documents and not data.has_documents:
        raise ConfigError(
            f"{config.data[0]} does not tell where documents end; leave --no-cross-documents out, or prepare the text"
        )
    n_train, n_val, needed = len(data.train), len(data.val), config.seq_len + 1
    if min(n_train, n_val) >= needed or not config.cross_documents:  # of short documents windows are padded
        return
    window = f"a window of seq_len {config.seq_len} and its target need {needed}"
    if data.validated:
        short, n = ("training (--data)", n_train) if n_train < needed else (f"validation ({data.validated})", n_val)
        advice = "" if config.val_data or n_train < needed else ", or --val-data"
        raise ConfigError(
            f"the text for {short} has {n} tokens, but {window}; give more text or a smaller seq_len{advice}"
        )
    raise ConfigError(
        f"the text has {n_train + n_val} tokens, {n_train} to train on and the last tenth, {n_val}, to validate, but "
        f"{window} in each; give at least {10 * config.seq_len + 1} tokens in all, a smaller seq_len, or --val-data"
    )


def with_derived(settings: dict[str, Any], **derived: int) -> dict[str, Any]:
    """model_settings with vocab_size and block_size from the data; ConfigError if a file sets other values."""
    for name, value in derived.items():
        if settings.get(name, value) != value:
            raise ConfigError(f"{name} is {settings[name]} in the config, but data and seq_len make it {value}")
    return {**settings, **derived}
