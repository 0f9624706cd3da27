"""Text as windows of tokens, each with the tokens that come next as its targets.

    tokens    a b c d e f g        window 0 of seq_len 4:  inputs  a b c d
                                                           targets b c d e

The windows of a batch are a function of the seed and the batch's number, so a checkpoint saves no order.
"""

import os
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array
from kernels.system.files import StrPath
from minigrad import random
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.cache import cached_corpus
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.tokenizers import Tokenizer
from tiny_transformer_np.training.windows import Windows

Batch: TypeAlias = tuple[Array, Array]  # inputs and targets, (B, T)

IGNORE_INDEX = -100  # a target that does not count: padding


class TextDataset:
    """Windows of `seq_len` tokens that start every `stride` tokens (0: seq_len, so that they do not overlap).

    text_file_or_tokens: a path of texts, which are tokenized once, into the user's cache; Tokens; or an integer array
    (n,) of token ids, which is not copied. Batches are int64, whatever integer type the ids have. Raises ConfigError
    for texts that cannot be read, and for too few tokens.

    cross_documents=True: the text is one sequence, documents one after another. A last window that would reach beyond
    the text is left out. False: windows begin anew with each document and end with it, so no target is in another
    document than its inputs. A window that the document does not fill is padded with targets IGNORE_INDEX. A
    document's first token is no target; its last is, which is the end-of-text token where the tokenizer has one, and
    that is never an input. A document of one token has no window.
    """

    def __init__(
        self,
        text_file_or_tokens: StrPath | Tokens | npt.ArrayLike,
        tokenizer: Tokenizer,
        seq_len: int,
        stride: int = 0,
        cross_documents: bool = True,
    ) -> None:
        if isinstance(text_file_or_tokens, (str, os.PathLike)):
            text_file_or_tokens = cached_corpus([text_file_or_tokens], tokenizer=tokenizer).corpus.train
        tokens = text_file_or_tokens if isinstance(text_file_or_tokens, Tokens) else np.asarray(text_file_or_tokens)
        self.tokens: Tokens | Array = tokens if tokens.dtype.kind in "iu" else np.asarray(tokens, np.int64)
        self.tokenizer, self.seq_len, self.stride = tokenizer, seq_len, stride or seq_len
        self.cross_documents = cross_documents
        self._digest = ""
        self._digested: object = None  # the tokens that the digest is of
        self._windows: Windows | None = None
        if not cross_documents:
            self._windows = self._all_windows(self.stride)
        if self._windows is not None and not len(self._windows):
            raise ConfigError("no document has a second token, which the first could predict; give more text")
        if self._windows is None and len(self.tokens) < seq_len + 1:
            raise ConfigError(
                f"the text has {len(self.tokens)} tokens, but a window of seq_len {seq_len} and its target need "
                f"{seq_len + 1}; give more text or a smaller seq_len"
            )

    def __len__(self) -> int:
        """The number of windows."""
        if self._windows is not None:
            return len(self._windows)
        return (len(self.tokens) - self.seq_len - 1) // self.stride + 1

    def __getitem__(self, index: npt.ArrayLike) -> Batch:
        """Window `index`, an int or an integer array (...) -> inputs, targets (..., seq_len)."""
        index = np.asarray(index)
        if ((index < 0) | (index >= len(self))).any():
            raise IndexError(f"window {index} is outside 0..{len(self) - 1}")
        if self._windows is None:
            inputs, targets = self._read(index.reshape(-1) * self.stride, None)
        else:
            inputs, targets = self._read(*self._windows.locate(index.reshape(-1)))
        shape = (*index.shape, self.seq_len)
        return inputs.reshape(shape), targets.reshape(shape)

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

    def blocks(self, batch_size: int, limit: int = 0) -> Iterator[Batch]:
        """For evaluation: batches (at most batch_size, seq_len) of windows side by side, in order.

        All targets exactly once. limit > 0, if there are more: about so many of them, in windows spread evenly over
        the text, the same ones whatever the batch size. A window that the text, or the document, does not fill is
        padded: its targets there are IGNORE_INDEX.
        """
        windows, chosen = self._evaluated(limit)
        for first in range(0, len(chosen), batch_size):
            yield self._read(*windows.locate(np.asarray(chosen[first : first + batch_size])))

    def n_targets(self, limit: int = 0) -> int:
        """The number of targets in `blocks(limit=limit)`."""
        windows, chosen = self._evaluated(limit)
        if len(chosen) == len(windows):
            return windows.n_targets
        return int(windows.locate(np.asarray(chosen))[1].sum())

    def _evaluated(self, limit: int) -> "tuple[Windows, range | Array]":
        """(windows side by side, indices of those that are evaluated)."""
        windows = self._all_windows(self.seq_len)
        n = len(windows)
        if not 0 < limit < windows.n_targets:
            return windows, range(n)
        k = max(1, limit * n // windows.n_targets)
        return windows, np.arange(k) * n // k

    def _all_windows(self, stride: int) -> Windows:
        """The windows that have all targets: of each document, or of the whole text."""
        if self._windows is not None and self._windows.stride == stride:
            return self._windows
        ends = self.tokens.ends if isinstance(self.tokens, Tokens) and not self.cross_documents else None
        return Windows(len(self.tokens), ends, self.seq_len, stride)

    def _read(self, starts: Array, n_targets: Array | None) -> Batch:
        """Windows that begin at `starts` (n,) -> inputs, targets (n, seq_len).

        n_targets (n,): how many of each window count; behind them it is padded. None: all.
        """
        T, n = self.seq_len, len(self.tokens)
        if n_targets is None:
            window = _window(self.tokens, starts, T + 1)
            return window[:, :-1].copy(), window[:, 1:].copy()  # of one window they would overlap
        window = np.zeros((len(starts), T + 1), np.int64)
        inside = starts + T < n
        if inside.any():
            window[inside] = _window(self.tokens, starts[inside], T + 1)
        for i in np.flatnonzero(~inside):  # at the end of the text
            window[i, : n - starts[i]] = self.tokens[int(starts[i]) :]
        counted = np.arange(T) < n_targets[:, None]
        return np.where(counted, window[:, :-1], 0), np.where(counted, window[:, 1:], IGNORE_INDEX)

    def digest(self) -> str:
        """A sha256 of the tokens; `data_identity` compares it. Computed once."""
        if self._digested is not self.tokens:
            tokens = self.tokens if isinstance(self.tokens, Tokens) else Tokens(self.tokens)
            self._digest, self._digested = tokens.digest(), self.tokens
        return self._digest


def _window(tokens: Tokens | Array, starts: Array, length: int) -> Array:
    """tokens[start : start + length] of each of starts (n,) -> (n, length) int64."""
    if isinstance(tokens, Tokens):
        return tokens.windows(starts, length)
    return tokens[starts[:, None] + np.arange(length)].astype(np.int64)


def python_manual() -> str:
    """The language reference that every CPython carries for `help()`: about 465,000 characters."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
