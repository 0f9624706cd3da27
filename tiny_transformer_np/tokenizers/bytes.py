"""One token per byte of UTF-8."""

from typing import Any, Self

import numpy as np

from kernels.arrays import Array
from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import END_OF_TEXT, ByteLevelTokenizer, utf8


class ByteTokenizer(ByteLevelTokenizer):
    """The ids 0..255 are bytes, 256 is <|endoftext|>. There is nothing to train, and every text can be encoded."""

    kind = "byte"
    token_bytes = (*(bytes([byte]) for byte in range(256)), END_OF_TEXT.encode())

    @property
    def special_tokens(self) -> dict[str, int]:
        return {END_OF_TEXT: 256}

    def encode(self, text: str, first: int = 0) -> Array:
        return np.frombuffer(utf8(text, first), np.uint8).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        if obj != {"kind": cls.kind}:
            raise ValueError(f"it has the keys {brief(sorted(obj))}; expected 'kind' alone")
        return cls()
