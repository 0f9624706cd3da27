"""Everything around the model: data, schedule, the training loop, and what it leaves on disk."""

from tiny_transformer_np.training.dataset import TextDataset
from tiny_transformer_np.training.scheduler import get_cosine_schedule_with_warmup
from tiny_transformer_np.training.trainer import Trainer

__all__ = ["TextDataset", "Trainer", "get_cosine_schedule_with_warmup"]
