"""Whether training can continue from a state: its numbers are finite, and so are the logits that they give.

A learning rate that is far too high leads to finite weights of 1e20 whose logits are not finite.
"""

import math

import numpy as np

from kernels.arrays import Array, on_host
from minigrad import functional as F
from minigrad._tensor import Tensor
from minigrad.recording import no_grad
from tiny_transformer_np.model import TransformerLM

_POSITIONS = 64  # per block of logits, which bounds their memory for a large vocabulary


def not_finite(arrays: dict[str, Array]) -> str | None:
    """A description of the first array that is not valid, or None. arrays {name: array} of a checkpoint.

    An array is not valid if it has NaN or infinity, or is a mean of squares (adamw.v) with a negative number.
    """
    for name, array in arrays.items():
        low, high = float(on_host(array.min())), float(on_host(array.max()))  # NaN if one element is
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"{name} is not finite"
        if name.startswith("adamw.v.") and low < 0.0:
            return f"{name} is negative"
    return None


@no_grad()
def logits_are_finite(model: TransformerLM) -> bool:
    """Whether a TransformerLM's logits are finite for two windows: the tokens in order, and tokens drawn at random.

    The windows depend on the config alone, so a checkpoint that passed when it was saved passes when it is loaded.
    """
    config, training = model.config, model.training
    T = min(config.block_size, 1024)
    windows = np.arange(T) % config.vocab_size, np.random.default_rng(0).integers(config.vocab_size, size=T)
    weight = (model.token_embedding if model.head is None else model.head).weight
    model.eval()
    try:
        with np.errstate(all="ignore"):  # overflow is what this looks for
            return all(_finite(model.features(ids[None]), weight) for ids in windows)
    finally:
        model.train(training)


def _finite(x: Tensor, weight: Tensor) -> bool:
    """Whether the logits of features x (1, T, C) are finite."""
    parts = (F.linear(x[:, i : i + _POSITIONS], weight).data for i in range(0, x.shape[1], _POSITIONS))
    return all(bool(np.isfinite(on_host(logits)).all()) for logits in parts)
