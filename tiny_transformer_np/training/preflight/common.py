"""Tools of the preflight checks: a copy of the model, to compare with the original, and short pieces of a batch."""

import copy

import numpy as np

from minigrad import random
from tiny_transformer_np.training.dataset import IGNORE_INDEX

WORK = 5_000_000_000  # parameters x tokens of a forward pass that takes well below a second


class CheckFailed(Exception):
    """A failed check. measured: a few words; explanation: the message; fatal: whether other checks would fail too."""

    def __init__(self, measured, explanation, fatal=False):
        super().__init__(explanation)
        self.measured, self.fatal = measured, fatal


def twin(model):
    """A copy of a model, weights and hooks included, that shares no array with it and belongs to no optimizer."""
    twin = copy.deepcopy(model)
    for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.grad, parameter.hooks = None, original.hooks
    return twin


def first_batch(trainer):
    """The batch (B, T) that the first step begins with: inputs, targets."""
    return trainer._batch(1, 0)


def cut(batch, rows, length):
    """The first `rows` windows of a batch, each up to `length` tokens. Contiguous, as in training."""
    return tuple(np.ascontiguousarray(part[:rows, :length]) for part in batch)


def shortened(trainer, copies=1):
    """The part of the first batch whose forward pass takes WORK / copies: all of it, unless the model is large."""
    batch = first_batch(trainer)
    tokens = max(32, WORK // trainer.model.num_parameters() // copies)
    T = min(tokens, batch[0].shape[1])
    return cut(batch, max(1, tokens // T), T)


def backward(model, ids, targets, seed):
    """Forward and backward, with the random numbers of step 1."""
    random.seek(seed, 1)
    loss = model(ids, targets, ignore_index=IGNORE_INDEX)
    if loss.requires_grad:
        loss.backward()
