"""Tools of the preflight checks: a copy of the model, to compare with the original, and short pieces of a batch."""

import copy

import numpy as np

from kernels.arrays import Array
from minigrad import random
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.dataset import IGNORE_INDEX, Batch
from tiny_transformer_np.training.trainer import Trainer

WORK = 5_000_000_000  # parameters x tokens of a forward pass that takes well below a second


class CheckFailed(Exception):
    """A failed check. measured: a few words; explanation: the message; fatal: whether other checks would fail too."""

    def __init__(self, measured: str, explanation: str, fatal: bool = False) -> None:
        super().__init__(explanation)
        self.measured, self.fatal = measured, fatal


def twin(model: TransformerLM) -> TransformerLM:
    """A copy of a model, weights and hooks included, that shares no array with it and belongs to no optimizer."""
    twin = copy.deepcopy(model)
    for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.grad, parameter.hooks = None, original.hooks
    return twin


def first_batch(trainer: Trainer) -> Batch:
    """The batch (B, T) that the first step begins with: inputs, targets."""
    return trainer._batch(1, 0)


def cut(batch: Batch, rows: int, length: int) -> Batch:
    """The first `rows` windows of a batch, each up to `length` tokens. Contiguous, as in training."""
    inputs, targets = (np.ascontiguousarray(part[:rows, :length]) for part in batch)
    return inputs, targets


def shortened(trainer: Trainer, copies: int = 1) -> Batch:
    """The part of the first batch whose forward pass takes WORK / copies: all of it, unless the model is large."""
    batch = first_batch(trainer)
    tokens = max(32, WORK // trainer.model.num_parameters() // copies)
    T = min(tokens, batch[0].shape[1])
    return cut(batch, max(1, tokens // T), T)


def backward(model: TransformerLM, ids: Array, targets: Array, seed: int) -> None:
    """Forward and backward, with the random numbers of step 1."""
    random.seek(seed, 1)
    loss = model(ids, targets, ignore_index=IGNORE_INDEX)
    if loss.requires_grad:
        loss.backward()
