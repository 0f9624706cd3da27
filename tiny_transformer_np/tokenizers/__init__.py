"""Tokenizers: text to ids and back. One interface (`Tokenizer`), four kinds.

    char   one id a character of the text that it was made from
    byte   one id a byte of UTF-8
    bpe    byte-level BPE with GPT-2's pre-tokenizer, through Hugging Face's `tokenizers`
    ids    ids whose tokenizer is not known

`train` makes one from texts, `load` reads one from a file, `from_json` gives what `to_json` gave.
"""

from collections.abc import Iterable
from typing import Any

from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import END_OF_TEXT, TextStream, Tokenizer
from tiny_transformer_np.tokenizers.bytes import ByteTokenizer
from tiny_transformer_np.tokenizers.characters import CharTokenizer
from tiny_transformer_np.tokenizers.ids import IdTokenizer

__all__ = [
    "END_OF_TEXT", "ByteTokenizer", "CharTokenizer", "IdTokenizer", "TextStream", "Tokenizer", "from_json", "train",
]  # fmt: skip

_KINDS: dict[str, type[Tokenizer]] = {each.kind: each for each in (CharTokenizer, ByteTokenizer, IdTokenizer)}


def from_json(obj: object) -> Tokenizer:
    """The tokenizer that `to_json` gave this object for. ValueError, one line, for any other object."""
    if not isinstance(obj, dict):
        raise ValueError(f"a tokenizer is {brief(obj)}; expected an object")
    kind: Any = obj.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"a tokenizer is of kind {brief(kind)}; expected one of {', '.join(_KINDS)}")
    return _KINDS[kind].from_json(obj)


def train(kind: str, pieces: Iterable[str], vocab_size: int = 0) -> Tokenizer:
    """A tokenizer of `kind` ("char", "byte" or "bpe") for texts that come in pieces, of which one is in memory.

    vocab_size: for "bpe". The same tokenizer on every run and with any number of threads.
    """
    if kind == "char":
        return CharTokenizer.from_pieces(pieces)
    if kind == "byte":
        return ByteTokenizer()
    raise ValueError(f"tokenizer is {brief(kind)}; expected one of char, byte, bpe")
