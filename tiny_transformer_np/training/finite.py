"""Whether a model's state is one to go on from: numbers that are finite, and that give finite logits.

A learning rate far too high leads to weights of 1e20 that are finite themselves while nothing computed from them is.
"""

import math

import numpy as np

from kernels.arrays import on_host
from minigrad import functional as F
from minigrad.graph import no_grad

_POSITIONS = 64  # whose logits are made at a time: with a large vocabulary those of all would not fit


def not_finite(arrays):
    """The first array that cannot be gone on from, in words, or None; arrays {name: array} of a checkpoint.

    That is one with NaN or infinity, or a mean of squares (adamw.v) that is negative.
    """
    for name, array in arrays.items():
        low, high = float(on_host(array.min())), float(on_host(array.max()))  # NaN if one number is
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"{name} is not finite"
        if name.startswith("adamw.v.") and low < 0.0:
            return f"{name} is negative"
    return None


@no_grad()
def logits_are_finite(model):
    """Whether a TransformerLM's logits are finite for two windows: the tokens in order, and tokens drawn at random.

    Always the same two for the same config, so that whatever was found sound when it was saved is so when it is loaded.
    """
    config, training = model.config, model.training
    T = min(config.block_size, 1024)
    windows = np.arange(T) % config.vocab_size, np.random.default_rng(0).integers(config.vocab_size, size=T)
    weight = (model.token_embedding if model.head is None else model.head).weight
    model.eval()
    try:
        with np.errstate(all="ignore"):  # what overflows is just what is looked for
            return all(_finite(model.features(ids[None]), weight) for ids in windows)
    finally:
        model.train(training)


def _finite(x, weight):
    """Whether the logits of features x (1, T, C) are."""
    parts = (F.linear(x[:, i : i + _POSITIONS], weight).data for i in range(0, x.shape[1], _POSITIONS))
    return all(bool(np.isfinite(on_host(logits)).all()) for logits in parts)
