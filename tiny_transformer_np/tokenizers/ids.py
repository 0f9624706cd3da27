"""Ids as they are: for tokenized data whose tokenizer is not known."""

import re
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import TextStream, Tokenizer

MOST = 2**32  # ids are uint32 in files


class IdTokenizer(Tokenizer):
    """Text shows ids as decimal numbers, separated by spaces; encode reads them, separated by whitespace or commas."""

    kind = "ids"

    def __init__(self, vocab_size: int) -> None:
        if type(vocab_size) is not int or not 1 <= vocab_size <= MOST:
            raise ValueError(f"a vocabulary has {brief(vocab_size)} ids; expected an integer from 1 to {MOST}")
        self._vocab_size = vocab_size

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    def encode(self, text: str, first: int = 0) -> Array:
        ids = []
        for match in re.finditer(r"[^\s,]+", text):
            word = match[0]
            if not re.fullmatch("[0-9]{1,10}", word) or int(word) >= self.vocab_size:
                where = f"{brief(word)} at position {first + match.start()}"
                raise ValueError(f"{where} is not an id; expected integers from 0 to {self.vocab_size - 1}")
            ids.append(int(word))
        return np.array(ids, np.int64)

    def decode(self, ids: npt.ArrayLike) -> str:
        return " ".join(map(str, self.checked_ids(ids).tolist()))

    def stream(self) -> TextStream:
        return IdStream(self)

    def bytes_per_token(self) -> Array:
        """Not known: 0 for every id."""
        return np.zeros(self.vocab_size, np.int64)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "vocab_size": self.vocab_size}

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        if obj.get("kind") != cls.kind or obj.keys() != {"kind", "vocab_size"}:
            raise ValueError(f"it has the keys {brief(sorted(obj))}; expected 'kind' and 'vocab_size'")
        return cls(obj["vocab_size"])


class IdStream(TextStream):
    """Numbers with a space between them."""

    def __init__(self, tokenizer: IdTokenizer) -> None:
        self._tokenizer, self._separator = tokenizer, ""

    def feed(self, id: int) -> str:
        text, self._separator = self._separator + self._tokenizer.decode([id]), " "
        return text

    def end(self) -> str:
        return ""
