"""The models and batches that are measured, and the operations that a training step of them must perform."""

import numpy as np

from tiny_transformer_np.config import TrainingConfig, TransformerConfig

#: name -> (layers, channels, heads, batch, tokens of a text, vocabulary, dropout)
CASES = {
    "small": (4, 128, 4, 12, 64, 65, 0.0),
    "baby": (6, 384, 6, 16, 256, 65, 0.0),
    "course": (4, 256, 4, 32, 128, 65, 0.1),
    "gpt2-124m": (12, 768, 12, 1, 256, 50304, 0.0),
    "wide-vocabulary": (4, 256, 4, 4, 256, 50304, 0.0),
    "long": (4, 256, 4, 2, 1024, 65, 0.0),
    "tiny": (2, 32, 2, 2, 16, 65, 0.0),  # for warming up
}


def configs(name, dtype="float32", **changed):
    """(TransformerConfig, TrainingConfig) of a case. changed: n_layer=, n_embd=, ... instead of the case's own."""
    keys = ("n_layer", "n_embd", "n_head", "batch_size", "seq_len", "vocab_size", "dropout")
    values = dict(zip(keys, CASES[name], strict=True)) | changed
    training = {key: values.pop(key) for key in ("batch_size", "seq_len")}
    model = TransformerConfig(block_size=training["seq_len"], **values)
    # max_steps is never reached
    return model, TrainingConfig(**training, max_steps=10**9, warmup_steps=0, stride=1)


def batch(config, training, number=0):
    """Random (ids, targets), both (B, T)."""
    shape = training.batch_size, training.seq_len + 1
    tokens = np.random.default_rng(number).integers(0, config.vocab_size, shape)
    return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


def flops(config, training):
    """Operations of a step's matrix products, forward and backward; a multiplication and an addition count as two.

    Only the unmasked half of causal attention is counted, and recomputed products are counted once.
    """
    B, T, C = training.batch_size, training.seq_len, config.n_embd
    linear = 12 * C * C * config.n_layer + C * config.vocab_size  # weights that multiply every token
    return 6 * B * T * linear + 6 * B * T * T * C * config.n_layer
