"""A Trainer from settings: reads the texts, makes the tokenizer, the datasets and the model."""

from collections.abc import Callable
from typing import Any

from minigrad import random
from tiny_transformer_np.config import ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.dataset import TextDataset, load_tokens
from tiny_transformer_np.training.progress import Progress
from tiny_transformer_np.training.run_folder import Run
from tiny_transformer_np.training.trainer import Trainer


def build_trainer(
    model_settings: dict[str, Any],
    config: TrainingConfig,
    run: Run | None = None,
    progress: Progress | None = None,
    before_weights: Callable[[TransformerConfig, tuple[int, int]], object] | None = None,
    keep_marks: bool = False,
) -> Trainer:
    """A Trainer with fresh weights, the same for the same seed.

    model_settings: fields of TransformerConfig, of which vocab_size and block_size follow from the data and from
    seq_len; config: TrainingConfig; before_weights: called with the TransformerConfig and the numbers of tokens to
    train on and to validate, before anything of the model's size is allocated; keep_marks: see `text.Text`.
    Raises ConfigError for data or settings that cannot be used.
    """
    tokenizer, train_tokens, val_tokens, digests = load_tokens(config.data, config.val_data, keep_marks)
    require_enough(len(train_tokens), len(val_tokens), config)
    train_data = TextDataset(train_tokens, tokenizer, config.seq_len, config.stride)
    val_data = TextDataset(val_tokens, tokenizer, config.seq_len)
    settings = with_derived(model_settings, vocab_size=tokenizer.vocab_size, block_size=config.seq_len)
    model_config = TransformerConfig(**settings)
    if before_weights:
        before_weights(model_config, (len(train_tokens), len(val_tokens)))
    random.seek(config.seed)
    trainer = Trainer(TransformerLM(model_config), train_data, val_data, config, run, progress)
    trainer.source = {"files": digests, "byte_order_marks": keep_marks}
    return trainer


def require_enough(n_train: int, n_val: int, config: TrainingConfig) -> None:
    """ConfigError unless each part of the text, of these numbers of tokens, has at least seq_len + 1."""
    needed = config.seq_len + 1
    if min(n_train, n_val) >= needed:
        return
    window = f"a window of seq_len {config.seq_len} and its target need {needed}"
    if config.val_data:
        part, n = ("training (--data)", n_train) if n_train < needed else ("validation (--val-data)", n_val)
        raise ConfigError(f"the text for {part} has {n} tokens, but {window}; give more text or a smaller seq_len")
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
