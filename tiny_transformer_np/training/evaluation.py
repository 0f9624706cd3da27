"""The loss over a validation text."""

import math
from typing import NamedTuple

from minigrad.recording import no_grad
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.dataset import IGNORE_INDEX, TextDataset


class Evaluation(NamedTuple):
    """loss: per target, in nats; n_bytes: of text (UTF-8) that the targets stand for, 0 where that is not known."""

    loss: float
    n_targets: int
    n_bytes: int

    @property
    def bits_per_byte(self) -> float | None:
        """The loss in bits per byte of text, by which tokenizers can be compared. None where that is not known."""
        return self.loss * self.n_targets / (math.log(2.0) * self.n_bytes) if self.n_bytes else None


@no_grad()
def evaluate(model: TransformerLM, dataset: TextDataset, batch_size: int, limit: int = 0) -> Evaluation:
    """The loss over all targets, each once; limit > 0: over about `limit` of them, see `TextDataset.blocks`."""
    model.eval()
    n_bytes_of = dataset.tokenizer.bytes_per_token()
    total, n_targets, n_bytes = 0.0, 0, 0
    for ids, targets in dataset.blocks(batch_size, limit):
        total += model(ids, targets, ignore_index=IGNORE_INDEX, reduction="sum").item()
        counted = targets[targets != IGNORE_INDEX]
        n_targets += len(counted)
        n_bytes += int(n_bytes_of[counted].sum())
    return Evaluation(total / n_targets, n_targets, n_bytes)
