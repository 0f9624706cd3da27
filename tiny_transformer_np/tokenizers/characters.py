"""One token per character."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import TextStream, Tokenizer


class CharTokenizer(Tokenizer):
    """Characters to ids and back. The id of a character is its place in `vocabulary`, a string of all of them."""

    kind = "char"

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        codes = _code_points(vocabulary)
        if len(np.unique(codes)) != len(codes) or not len(codes):
            raise ValueError("a vocabulary needs at least one character, and each only once")
        if ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ValueError("a vocabulary holds characters; half of a surrogate pair is none")
        self._ids = np.full(codes.max() + 2, -1)  # by code point; the last is for all larger ones
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The vocabulary of all characters that occur, in order of their code points."""
        return cls.from_pieces(texts)

    @classmethod
    def from_pieces(cls, pieces: Iterable[str]) -> Self:
        """`from_text` of an iterable of str, of which one at a time is in memory."""
        characters: set[str] = set()
        for piece in pieces:
            characters.update(piece)
        return cls("".join(sorted(characters)))

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str, first: int = 0) -> Array:
        codes = _code_points(text)
        ids = self._ids[codes.clip(max=len(self._ids) - 1)]
        if len(ids) and ids.min() < 0:
            at = int(ids.argmin())
            where = f"character {text[at]!r} at position {first + at}"
            raise ValueError(f"{where} is not among the {self.vocab_size} known ones")
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        return "".join([self.vocabulary[id] for id in self.checked_ids(ids).tolist()])

    def stream(self) -> TextStream:
        return CharStream(self)

    def bytes_per_token(self) -> Array:
        codes = _code_points(self.vocabulary)
        return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "vocabulary": self.vocabulary}

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        if obj.get("kind") != cls.kind or obj.keys() - {"kind", "vocabulary"}:
            raise ValueError(f"it has the keys {brief(sorted(obj))}; expected 'kind' and 'vocabulary'")
        if not isinstance(obj.get("vocabulary"), str):
            raise ValueError(f"its vocabulary is {brief(obj.get('vocabulary'))}; expected a text")
        return cls(obj["vocabulary"])


class CharStream(TextStream):
    """Every id is a whole character."""

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self._tokenizer = tokenizer

    def feed(self, id: int) -> str:
        return self._tokenizer.decode([id])

    def end(self) -> str:
        return ""


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
