"""Text as windows of tokens, each with the tokens that come next as its targets.

    tokens    a b c d e f g        window 0 of seq_len 4:  inputs  a b c d
                                                           targets b c d e

Which windows form a batch is a function of the seed and the batch's number, so there is no order to save.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from minigrad import random
from tiny_transformer_np.config import ConfigError

IGNORE_INDEX = -100  # a target that does not count: padding


class TextDataset:
    """Windows of `seq_len` tokens that start every `stride` tokens (0: seq_len, so that they do not overlap).

    text_file_or_tokens: a path of a UTF-8 text, or an integer array (n,) of token ids. A last window that would
    reach beyond the text is left out. Raises ConfigError for a text that cannot be read or is too short.
    """

    def __init__(self, text_file_or_tokens, tokenizer, seq_len, stride=0):
        if isinstance(text_file_or_tokens, (str, os.PathLike)):
            text_file_or_tokens = tokenizer.encode(read_text(text_file_or_tokens))
        self.tokens = np.asarray(text_file_or_tokens, dtype=np.int64)
        self.tokenizer, self.seq_len, self.stride = tokenizer, seq_len, stride or seq_len
        if len(self.tokens) < seq_len + 1:
            raise ConfigError(
                f"the text has {len(self.tokens)} tokens, but a window of seq_len {seq_len} and its target need "
                f"{seq_len + 1}; give more text or a smaller seq_len"
            )

    def __len__(self):
        """The number of windows."""
        return (len(self.tokens) - self.seq_len - 1) // self.stride + 1

    def __getitem__(self, index):
        """Window `index`, an int or an integer array (...) -> inputs, targets (..., seq_len)."""
        index = np.asarray(index)
        if ((index < 0) | (index >= len(self))).any():
            raise IndexError(f"window {index} is outside 0..{len(self) - 1}")
        places = index[..., None] * self.stride + np.arange(self.seq_len)
        return self.tokens[places], self.tokens[places + 1]

    def batch(self, number, batch_size, seed):
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

    def blocks(self, batch_size):
        """All targets exactly once, in order: batches (at most batch_size, seq_len) of windows side by side.

        The last window is padded; targets there are IGNORE_INDEX.
        """
        n = len(self.tokens) - 1
        n_windows = -(-n // self.seq_len)
        inputs = np.zeros(n_windows * self.seq_len, np.int64)
        targets = np.full(n_windows * self.seq_len, IGNORE_INDEX, np.int64)
        inputs[:n], targets[:n] = self.tokens[:-1], self.tokens[1:]
        inputs, targets = inputs.reshape(-1, self.seq_len), targets.reshape(-1, self.seq_len)
        for start in range(0, n_windows, batch_size):
            yield inputs[start : start + batch_size], targets[start : start + batch_size]

    def digest(self):
        """A sha256 of the tokens, to recognise the data by."""
        return hashlib.sha256(self.tokens.tobytes()).hexdigest()


def read_text(path):
    """A UTF-8 file's text. ConfigError if it is missing, unreadable, empty or not UTF-8."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read data file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"data file {path} is not UTF-8 text (byte {error.start}); convert it first") from None
    if not text:
        raise ConfigError(f"data file {path} is empty; expected text")
    return text


def python_manual():
    """The language reference that every CPython carries for `help()`: about 465,000 characters."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def load_texts(data, val_data):
    """The training and the validation text: files, or the Python manual; the last tenth validates by default."""
    text = "\n".join(read_text(path) for path in data) if data else python_manual()
    if val_data:
        return text, "\n".join(read_text(path) for path in val_data)
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]
