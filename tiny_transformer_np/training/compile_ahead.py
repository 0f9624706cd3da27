"""A training step of a tiny model, which compiles the kernels that a run uses, and no others, before it begins."""

import dataclasses

import numpy as np

import kernels
from minigrad import random
from tiny_transformer_np.config import TrainingConfig
from tiny_transformer_np.model import LARGE_VOCABULARY, TransformerLM
from tiny_transformer_np.training.dataset import TextDataset
from tiny_transformer_np.training.trainer import Trainer

_T, _C = 8, 16  # tokens and channels


def prepare_kernels(trainer: Trainer) -> None:
    """Compile the CPU kernels that this Trainer will call, unless they are cached. The Trainer stays as it is."""
    if trainer.config.device == "cpu":
        kernels.prepare(lambda: _rehearse(trainer))


def _rehearse(trainer: Trainer) -> None:
    """One step, one evaluation and one sample of the smallest model that calls the same kernels."""
    shape = dataclasses.replace(
        trainer.model.config, n_layer=1, n_head=1, n_embd=_C, block_size=_T,
        vocab_size=min(trainer.model.config.vocab_size, LARGE_VOCABULARY),
    )  # fmt: skip
    micro_batches = min(2, trainer.config.grad_accumulation_steps)
    config = TrainingConfig(
        seq_len=_T, batch_size=1, grad_accumulation_steps=micro_batches, max_steps=1, warmup_steps=0, sample_tokens=1
    )
    data = TextDataset(np.zeros(2 * _T, trainer.train_dataset.tokens.dtype), trainer.train_dataset.tokenizer, _T)
    with random.kept():
        small = Trainer(TransformerLM(shape), data, data, config)
        small.train_step()
        small.evaluate()
        small.sample()
