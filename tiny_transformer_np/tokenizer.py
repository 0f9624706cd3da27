"""One token per character."""

from collections.abc import Iterable
from typing import Self

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array


class CharTokenizer:
    """Characters to ids and back. The id of a character is its place in `vocabulary`, a string of all of them."""

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        codes = _code_points(vocabulary)
        if len(np.unique(codes)) != len(codes) or not len(codes):
            raise ValueError("a vocabulary needs at least one character, and each only once")
        if ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ValueError("a vocabulary holds characters; half of a surrogate pair is none")
        self._order = np.argsort(codes)
        self._codes = codes[self._order]

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
        """str -> int64 array (len(text),). ValueError naming a character that is not in the vocabulary.

        first: the position of the text's first character, where the text is a piece of a longer one.
        """
        codes = _code_points(text)
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = self._codes[places] != codes
        if unknown.any():
            at = int(np.argmax(unknown))
            where = f"character {text[at]!r} at position {first + at}"
            raise ValueError(f"{where} is not among the {self.vocab_size} known ones")
        return self._order[places]

    def decode(self, ids: npt.ArrayLike) -> str:
        """Integer array -> str."""
        return "".join(self.vocabulary[i] for i in np.asarray(ids).reshape(-1).tolist())


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
