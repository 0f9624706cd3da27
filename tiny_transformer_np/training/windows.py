"""Where the windows of a text's documents are, without a list of the windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels.arrays import Array

_GROUP = 16  # documents for which one number is kept
_AT_ONCE = 1 << 12  # groups that are looked at together when windows are counted


class Windows:
    """Windows of `seq_len` tokens, one every `stride` tokens of each document, that together have all of its targets.

    n_tokens: of the text; ends: ascending positions behind each document's last token, as an array or what is
    indexed like one, or None where the text is one document. A document of n tokens has n - 1 targets.

    The number of windows in front of every 16th document is kept, half a byte a document; of `ends` little is read.
    """

    def __init__(self, n_tokens: int, ends: Any, seq_len: int, stride: int) -> None:
        self.seq_len, self.stride = seq_len, stride
        self._ends, self._n_tokens = ends, n_tokens
        self._n_ended = 0 if ends is None else len(ends)
        counts = [(self._n_windows(lengths).sum(axis=1), np.maximum(lengths - 1, 0).sum()) for lengths in self._all()]
        self._before = np.cumsum(np.concatenate([[0], *(windows for windows, _ in counts)]))  # (groups + 1,)
        self.n_targets = int(sum(n for _, n in counts))

    def __len__(self) -> int:
        return int(self._before[-1])

    def locate(self, index: Array) -> tuple[Array, Array]:
        """index (n,) of windows -> (the position of each one's first input, the number of its targets), (n,) each."""
        group = np.searchsorted(self._before, index, side="right") - 1
        borders = self._borders(group)
        lengths = np.diff(borders)
        upto = np.cumsum(self._n_windows(lengths), axis=1)  # windows of the group up to each of its documents
        inside = index - self._before[group]
        row, document = np.arange(len(index)), np.argmax(upto > inside[:, None], axis=1)  # the first
        at = (inside - np.where(document > 0, upto[row, document - 1], 0)) * self.stride
        return borders[row, document] + at, np.minimum(self.seq_len, lengths[row, document] - 1 - at)

    def _all(self) -> Iterator[Array]:
        """The lengths (groups, 16) of all documents, some groups at a time."""
        n_groups = self._n_ended // _GROUP + 1  # behind the last border there may be one more document
        for first in range(0, n_groups, _AT_ONCE):
            yield np.diff(self._borders(np.arange(first, min(first + _AT_ONCE, n_groups))))

    def _borders(self, group: Array) -> Array:
        """Where the documents of each group begin, and its last one ends: (n,) -> (n, 17). Beyond the last: the end."""
        number = group[:, None] * _GROUP + np.arange(-1, _GROUP)  # of the document that ends there
        ends = np.where(number < 0, 0, self._n_tokens)
        ended = (number >= 0) & (number < self._n_ended)
        if ended.any():
            ends[ended] = self._ends[number[ended]]
        return ends

    def _n_windows(self, lengths: Array) -> Array:
        """The number of windows of each document. lengths: of the documents, in tokens."""
        n_targets = lengths - 1
        overlap = max(0, self.seq_len - self.stride)  # targets that a window has in common with the next
        return np.where(n_targets > 0, np.maximum(-(-(n_targets - overlap) // self.stride), 1), 0)
