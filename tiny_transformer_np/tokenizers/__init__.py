"""Tokenizers: text to ids and back. One interface (`Tokenizer`), four kinds.

    char   one id a character of the text that it was made from
    byte   one id a byte of UTF-8
    bpe    byte-level BPE with GPT-2's pre-tokenizer, through Hugging Face's `tokenizers`
    ids    ids whose tokenizer is not known

`train` makes one from texts, `load` reads one from a file, `from_json` gives what `to_json` gave.
"""

from tiny_transformer_np.tokenizers.base import END_OF_TEXT, TextStream, Tokenizer
from tiny_transformer_np.tokenizers.bpe import BpeTokenizer
from tiny_transformer_np.tokenizers.bpe_training import SAMPLE_BYTES
from tiny_transformer_np.tokenizers.bytes import ByteTokenizer
from tiny_transformer_np.tokenizers.characters import CharTokenizer
from tiny_transformer_np.tokenizers.files import KINDS, from_json, load
from tiny_transformer_np.tokenizers.ids import IdTokenizer
from tiny_transformer_np.tokenizers.training import train

__all__ = [
    "END_OF_TEXT", "KINDS", "SAMPLE_BYTES", "BpeTokenizer", "ByteTokenizer", "CharTokenizer", "IdTokenizer",
    "TextStream", "Tokenizer", "from_json", "load", "train",
]  # fmt: skip
