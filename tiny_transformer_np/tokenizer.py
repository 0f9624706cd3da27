"""The place of `CharTokenizer` up to version 0.2; the tokenizers are in `tiny_transformer_np.tokenizers`."""

from tiny_transformer_np.tokenizers.characters import CharTokenizer

__all__ = ["CharTokenizer"]
