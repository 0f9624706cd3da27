"""A GPT-2 shaped language model and everything needed to train it, on the `minigrad` engine."""

from tiny_transformer_np_package_check import __version__  # isort: skip  first: refuses foreign packages
from tiny_transformer_np.config import ConfigError, TrainingConfig, TransformerConfig
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.tokenizers import CharTokenizer

__all__ = ["CharTokenizer", "ConfigError", "TrainingConfig", "TransformerConfig", "TransformerLM", "__version__"]
