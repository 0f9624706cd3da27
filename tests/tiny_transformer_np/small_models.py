"""Small models, texts and trainers, for the tests of this folder."""

import numpy as np

from minigrad import random
from tiny_transformer_np import CharTokenizer, TrainingConfig, TransformerConfig, TransformerLM
from tiny_transformer_np.training import TextDataset, Trainer

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. " * 6


def model_config(**changes):
    settings = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
    return TransformerConfig(**settings | changes)


def make_model(seed=0, dtype=np.float32, **changes):
    """A TransformerLM of model_config(**changes) with the weights of this seed."""
    random.seek(seed)
    return TransformerLM(model_config(**changes)).astype(dtype)


def batch_of(config, B=2, T=None, seed=0):
    """Random ids and targets (B, T); T: the whole context."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(config.vocab_size, size=(2, B, T or config.block_size)))


def training_config(**changes):
    settings = {
        "seq_len": 8, "batch_size": 4, "max_steps": 6, "learning_rate": 1e-2, "min_lr": 1e-3, "warmup_steps": 2,
        "log_interval": 1, "eval_interval": 3, "save_interval": 100, "sample_tokens": 0, "seed": 5,
    }  # fmt: skip
    return TrainingConfig(**settings | changes)


def make_trainer(run=None, model=None, text=TEXT, dtype=np.float32, made=None, **changes):
    """A Trainer of a small model on `text`; `model` and `changes`: settings of the model and of the training.

    made: the tokenizer; None: of the characters of the text.
    """
    config = training_config(**changes)
    tokenizer = made or CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    cut = len(tokens) * 3 // 4
    train, val = (TextDataset(part, tokenizer, config.seq_len) for part in (tokens[:cut], tokens[cut:]))
    shape = {"vocab_size": tokenizer.vocab_size, "block_size": config.seq_len, **(model or {})}
    return Trainer(make_model(config.seed, dtype, **shape), train, val, config, run)


def weights_of(trainer):
    """Copies of all weights by name."""
    return {name: array.copy() for name, array in trainer.model.state_dict().items()}


def same_bits(a, b):
    """Whether two dicts of arrays are equal, bit for bit."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)
