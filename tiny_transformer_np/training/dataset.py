"""Text as windows of tokens, each with the tokens that come next as its targets.

    tokens    a b c d e f g        window 0 of seq_len 4:  inputs  a b c d
                                                           targets b c d e

The windows of a batch are a function of the seed and the batch's number, so a checkpoint saves no order.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system.files import StrPath
from minigrad import random
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.tokenizer import CharTokenizer
from tiny_transformer_np.training.text import Text, encode_text

Batch: TypeAlias = tuple[Array, Array]  # inputs and targets, (B, T)

IGNORE_INDEX = -100  # a target that does not count: padding
_HASHED = 1 << 20  # tokens that are hashed at a time


class TextDataset:
    """Windows of `seq_len` tokens that start every `stride` tokens (0: seq_len, so that they do not overlap).

    text_file_or_tokens: a path of a UTF-8 text, or an integer array (n,) of token ids, which is not copied. A last
    window that would reach beyond the text is left out. Batches are int64, whatever integer type the ids have. Raises
    ConfigError for a text that cannot be read or is too short.
    """

    def __init__(
        self, text_file_or_tokens: StrPath | npt.ArrayLike, tokenizer: CharTokenizer, seq_len: int, stride: int = 0
    ) -> None:
        if isinstance(text_file_or_tokens, (str, os.PathLike)):
            text_file_or_tokens = encode_text(Text(text_file_or_tokens), tokenizer)
        tokens = np.asarray(text_file_or_tokens)
        self.tokens = tokens if tokens.dtype.kind in "iu" else tokens.astype(np.int64)
        self.tokenizer, self.seq_len, self.stride = tokenizer, seq_len, stride or seq_len
        self._digest = ""
        self._digested: Array | None = None  # the array that the digest is of
        if len(self.tokens) < seq_len + 1:
            raise ConfigError(
                f"the text has {len(self.tokens)} tokens, but a window of seq_len {seq_len} and its target need "
                f"{seq_len + 1}; give more text or a smaller seq_len"
            )

    def __len__(self) -> int:
        """The number of windows."""
        return (len(self.tokens) - self.seq_len - 1) // self.stride + 1

    def __getitem__(self, index: npt.ArrayLike) -> Batch:
        """Window `index`, an int or an integer array (...) -> inputs, targets (..., seq_len)."""
        index = np.asarray(index)
        if ((index < 0) | (index >= len(self))).any():
            raise IndexError(f"window {index} is outside 0..{len(self) - 1}")
        places = index[..., None] * self.stride + np.arange(self.seq_len)
        return self.tokens[places].astype(np.int64), self.tokens[places + 1].astype(np.int64)

    def batch(self, number: int, batch_size: int, seed: int) -> Batch:
        """The `number`-th batch, counted from 0, of an endless walk through the windows in random order.

        A pure function of its arguments. Each epoch visits every window once, in an order of its own; a batch
        may reach from one epoch into the next. -> inputs, targets (batch_size, seq_len).
        """
        sample = number * batch_size + np.arange(batch_size)
        epoch, position = np.divmod(sample, len(self))
        index = np.empty_like(sample)
        for e in np.unique(epoch):
            index[epoch == e] = random.shuffled(position[epoch == e], len(self), seed, int(e))
        return self[index]

    def blocks(self, batch_size: int) -> Iterator[Batch]:
        """All targets exactly once, in order: batches (at most batch_size, seq_len) of windows side by side.

        The last window is padded; targets there are IGNORE_INDEX.
        """
        T = self.seq_len
        n = len(self.tokens) - 1
        n_windows = -(-n // T)
        for first in range(0, n_windows, batch_size):
            start, n_rows = first * T, min(batch_size, n_windows - first)
            inputs, targets = np.zeros(n_rows * T, np.int64), np.full(n_rows * T, IGNORE_INDEX, np.int64)
            here = min(n_rows * T, n - start)  # fewer in the last batch
            inputs[:here] = self.tokens[start : start + here]
            targets[:here] = self.tokens[start + 1 : start + 1 + here]
            yield inputs.reshape(n_rows, T), targets.reshape(n_rows, T)

    def digest(self) -> str:
        """A sha256 of the tokens as int64; `data_identity` compares it. Computed once."""
        if self._digested is not self.tokens:
            sha256 = hashlib.sha256()
            for start in range(0, len(self.tokens), _HASHED):
                sha256.update(self.tokens[start : start + _HASHED].astype(np.int64).data)
            self._digest, self._digested = sha256.hexdigest(), self.tokens
        return self._digest


def python_manual() -> str:
    """The language reference that every CPython carries for `help()`: about 465,000 characters."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def load_tokens(
    data: Sequence[StrPath], val_data: Sequence[StrPath], keep_marks: bool = False
) -> tuple[CharTokenizer, Array, Array, list[str]]:
    """(tokenizer, training tokens, validation tokens, a sha256 of each file) of files, or of the Python manual.

    keep_marks: see `Text`.
    Without val_data the last tenth validates. At its peak this takes two bytes for each byte of a text, one of the
    file and one of the ids; ids of more than 256 characters take two or four bytes, but such a text has fewer.
    """
    text = Text(*data, keep_marks=keep_marks) if data else Text.of(python_manual())
    val_text = Text(*val_data, keep_marks=keep_marks)
    digests = [*text.digests(), *val_text.digests()]
    tokenizer = CharTokenizer.from_pieces(chain(text, val_text))
    tokens = encode_text(text, tokenizer)
    if val_data:
        return tokenizer, tokens, encode_text(val_text, tokenizer), digests
    cut = int(0.9 * len(tokens))
    return tokenizer, tokens[:cut], tokens[cut:], digests
