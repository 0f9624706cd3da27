"""What every tokenizer can do. V is the size of its vocabulary; ids are 0..V-1."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array

END_OF_TEXT = "<|endoftext|>"


class TextStream(ABC):
    """Ids to text, one id at a time and whole characters only: a character whose bytes are incomplete is held back.

    All pieces together, with `end()` last, are what `decode` of all ids gives.
    """

    @abstractmethod
    def feed(self, id: int) -> str:
        """The text that is complete with this id; "" if it ends inside a character. ValueError for an unknown id."""

    @abstractmethod
    def end(self) -> str:
        """U+FFFD if the ids so far end inside a character, else ""."""


class Tokenizer(ABC):
    """Text to ids and back. `kind` names the class in files."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V, the number of different ids."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """{name: id} of tokens that no text is encoded to, also where a text spells out such a name."""
        return {}

    @property
    def end_of_text(self) -> int | None:
        """The id that follows every document; None: the text "\\n" stands between documents."""
        return self.special_tokens.get(END_OF_TEXT)

    @abstractmethod
    def encode(self, text: str, first: int = 0) -> Array:
        """str -> int64 array (n,). ValueError naming what cannot be encoded, and its position.

        first: the position of the text's first character, where the text is a piece of a longer one.
        """

    def encode_batch(self, texts: Iterable[str]) -> list[Array]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, ids: npt.ArrayLike) -> str:
        """Integer array -> str; bytes that are not UTF-8 become U+FFFD. ValueError for ids that are not in 0..V-1."""

    @abstractmethod
    def stream(self) -> TextStream:
        """A TextStream that begins here."""

    @abstractmethod
    def bytes_per_token(self) -> Array:
        """int64 array (V,): the bytes of UTF-8 that each id stands for; 0 for special tokens."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """{"kind": kind, ...}: all that `from_json` needs, of types that JSON has; always in the same order."""

    @classmethod
    @abstractmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        """The tokenizer of `to_json`'s object. ValueError, one line, for any other object."""

    def checked_ids(self, ids: npt.ArrayLike) -> Array:
        """Integer array of any shape -> int64 (n,). ValueError for ids that are not in 0..V-1."""
        flat = np.asarray(ids).reshape(-1)
        if not len(flat):
            return flat.astype(np.int64)
        if flat.dtype.kind not in "iu":
            raise ValueError(f"ids have the dtype {flat.dtype}; expected integers")
        for id in (flat.min(), flat.max()):
            if not 0 <= id < self.vocab_size:
                raise ValueError(f"the id {id} is not one of 0..{self.vocab_size - 1}")
        return flat.astype(np.int64)


class ByteLevelTokenizer(Tokenizer):
    """A tokenizer whose tokens are bytes of UTF-8: `token_bytes[id]` are those of a token."""

    token_bytes: Sequence[bytes]

    @property
    def vocab_size(self) -> int:
        return len(self.token_bytes)

    def decode(self, ids: npt.ArrayLike) -> str:
        return b"".join([self.token_bytes[id] for id in self.checked_ids(ids).tolist()]).decode("utf-8", "replace")

    def stream(self) -> TextStream:
        return ByteStream(self)

    def bytes_per_token(self) -> Array:
        sizes = np.array([len(token) for token in self.token_bytes], np.int64)
        sizes[list(self.special_tokens.values())] = 0
        return sizes


class ByteStream(TextStream):
    """The stream of a ByteLevelTokenizer: an incremental decoder of UTF-8."""

    def __init__(self, tokenizer: ByteLevelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        (id,) = self._tokenizer.checked_ids(id).tolist()
        return self._decoder.decode(self._tokenizer.token_bytes[id])

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


def utf8(text: str, first: int = 0) -> bytes:
    """The bytes of a str. ValueError, with its position counted from `first`, for half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        where = f"{text[error.start]!r} at position {first + error.start}"
        raise ValueError(f"{where} is half of a surrogate pair, which is no character") from None
