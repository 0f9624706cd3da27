"""A tokenizer from texts."""

from collections.abc import Iterable

from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import Tokenizer
from tiny_transformer_np.tokenizers.bpe_training import train_bpe
from tiny_transformer_np.tokenizers.bytes import ByteTokenizer
from tiny_transformer_np.tokenizers.characters import CharTokenizer


def train(kind: str, pieces: Iterable[str], vocab_size: int = 0) -> Tokenizer:
    """A tokenizer of `kind` ("char", "byte" or "bpe") for a text in pieces, of which one at a time is in memory.

    vocab_size: the most tokens of a "bpe", see `bpe_training.train_bpe`. The result is the same on every run and with
    any number of threads. ValueError for another kind, or pieces of which none can be made.
    """
    if kind == "char":
        return CharTokenizer.from_pieces(pieces)
    if kind == "byte":
        return ByteTokenizer()
    if kind == "bpe":
        return train_bpe(pieces, vocab_size)
    raise ValueError(f"a tokenizer of kind {brief(kind)} cannot be trained; expected char, byte or bpe")
