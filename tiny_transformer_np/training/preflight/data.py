"""Checks of the settings and the data: the first learning rate, the targets, and the validation split."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.arrays import Array
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight.common import CheckFailed, first_batch
from tiny_transformer_np.training.trainer import Trainer

PASSAGE = 64  # tokens; natural text rarely repeats as many, unless it quotes
LONGEST = 1 << 25  # tokens compared of each text: the last for training, the first for validation
SAMPLED = 1 << 14  # passages of the validation text that are looked up, up to twice as many
PIECE = 1 << 15  # tokens at a time, so that temporary arrays fit in the cache
TABLE = 1 << 20  # entries of a hash table
CANDIDATES = 100  # places where the texts may overlap; only a text that repeats itself has more than one


def learning_rate(trainer: Trainer) -> str:
    """The learning rate of step 1 is above 0."""
    rate = trainer.optimizer.learning_rate
    if not 0.0 < rate < math.inf:
        raise CheckFailed(
            f"{rate:g} at step 1",
            f"the learning rate of step 1 is {rate:g}; expected more than 0. Usually a warm-up that counts its steps "
            "from 0, so that the first batch is thrown away.",
        )
    return f"{rate:.3g} at step 1"


def targets(trainer: Trainer) -> str:
    """Each target is the token after its input, in the batch and in the text."""
    ids, targets = first_batch(trainer)
    counted = targets != IGNORE_INDEX
    agreeing = {s: _agreement(ids, targets, s) for s in (1, 0, 2, -1)}  # targets[t] == ids[t + s]
    if agreeing[1] < 1.0:
        best = max(agreeing, key=agreeing.__getitem__)
        means = {
            0: "The model is asked for the token it has just read: a loss of nearly 0 that means nothing.",
            -1: "The model is asked for a token it has read already: inputs and targets are exchanged.",
            2: "One position too far: the slice of the targets starts at 2 and not at 1.",
        }.get(best, "Usually inputs and targets that were shuffled or cut differently.")
        fits = f"they are shifted by {best} instead. " if best != 1 and agreeing[best] == 1.0 else ""
        raise CheckFailed(
            f"{agreeing[1]:.0%} are the next input",
            f"only {agreeing[1]:.0%} of the targets equal the input one place further on; expected all: {fits}{means}",
        )
    ids, targets, tokens = _findable(trainer, ids, targets)
    for row, last in zip(ids[:4], targets[:4, -1], strict=True):  # the last target is in no input
        if last != IGNORE_INDEX and not _occurs(np.append(row, last), tokens):
            raise CheckFailed(
                "a last target is not what follows",
                f"a window's inputs, and its last target {last} behind them, are nowhere in the training text. Usually "
                "targets made by rolling the inputs around (np.roll), which puts the first token behind the last.",
            )
    return f"the inputs shifted by one, in {int(counted.sum())} places"


def _findable(trainer: Trainer, ids: Array, targets: Array) -> tuple[Array, Array, Any]:
    """(ids, targets, the text that they must occur in); of a long text, windows of its beginning instead."""
    dataset = trainer.train_dataset
    if len(dataset.tokens) <= LONGEST:
        return ids, targets, dataset.tokens
    tokens = part(dataset.tokens, 0, LONGEST)
    beginning = type(dataset)(tokens, dataset.tokenizer, dataset.seq_len, dataset.stride, dataset.cross_documents)
    return *beginning.batch(0, len(ids), trainer.config.seed), tokens


def _agreement(ids: Array, targets: Array, shift: int) -> float:
    """The share of counted targets (B, T) with targets[t] == ids[t + shift]; 1.0 where none has such a place."""
    T = ids.shape[1]
    at = slice(max(0, -shift), T - max(0, shift))
    asked, given = targets[:, at], ids[:, max(0, shift) : T + min(0, shift)]
    counted = asked != IGNORE_INDEX
    return float((asked == given)[counted].mean()) if counted.any() else 1.0


def split(trainer: Trainer) -> str:
    """The validation text is not part of the training text."""
    if trainer.val_dataset is None:
        return "no validation"
    return _disjoint(trainer.train_dataset.tokens, trainer.val_dataset.tokens)


def part(tokens: Any, start: int, stop: int) -> Any:
    """tokens[start:stop]: of an array a view, of `corpus.Tokens` what is read when it is needed."""
    return tokens.part(start, stop) if isinstance(tokens, Tokens) else tokens[start:stop]


def _overlap(train: Any, val: Any) -> bool:
    """Whether an id stands in both texts: in the same array, or the same file."""
    if isinstance(train, Tokens) and isinstance(val, Tokens):
        return train.overlaps(val)
    return np.shares_memory(train, val)


def _disjoint(train: Any, val: Any) -> str:
    """Raise CheckFailed if two texts (n,) of token ids overlap, or share most passages. Returns a few words."""
    advice = "the validation loss would praise what was learned by heart. Split the text first, then cut windows."
    if _overlap(train, val):
        raise CheckFailed("positions in common", f"training and validation are the same stretch of one text in part: "
                          f"{advice}")  # fmt: skip
    train, val = part(train, max(0, len(train) - LONGEST), len(train)), part(val, 0, min(LONGEST, len(val)))
    length = min(PASSAGE, len(train), len(val))
    one_in = 1 << max(0, (len(val) // SAMPLED).bit_length() - 1)
    begin_train, end_train, begin_val, end_val = (
        _hashes(each, length)[0] for each in (train[:length], train[-length:], val[:length], val[-length:])
    )
    divisor, table = np.uint64(one_in), np.uint64(TABLE)
    of_val, begins_train, ends_train = _scan(val, length, lambda h: h[h % divisor == 0], begin_train, end_train)
    likely, known = np.zeros(TABLE, bool), np.unique(of_val)
    likely[known % table] = True

    def also_of_val(hashes: Array) -> Array:  # of a long training text that is little, and all that is kept of it
        hashes = np.unique(hashes[likely[hashes % table]])
        return hashes[known[np.searchsorted(known, hashes) % max(len(known), 1)] == hashes]

    of_train, begins_val, ends_val = _scan(train, length, also_of_val, begin_val, end_val)
    common = max(
        _border(train, val, begins_val, ends_train, length), _border(val, train, begins_train, ends_val, length)
    )
    if common:
        raise CheckFailed(
            f"{common} tokens in common at the border",
            f"one text ends with the {common} tokens that the other begins with; expected none: the ranges overlap, so "
            f"{advice}",
        )
    share = float(np.isin(of_val, of_train).mean()) if of_val.size else 0.0
    if share > 0.5:
        which = "the whole validation text is" if share == 1.0 else f"{share:.0%} of the validation text is"
        raise CheckFailed(
            f"{share:.0%} of validation is in training",
            f"{which} contained in the training text, in passages of {length} tokens; expected a few per cent at most: "
            f"{advice}",
        )
    sampled = f", 1 in {one_in} sampled" if one_in > 1 else ""
    return f"{share:.1%} of validation's {length}-token passages recur{sampled}"


def _scan(tokens: Any, length: int, chosen: Callable[[Array], Array], *wanted: np.uint64) -> tuple[Array, ...]:
    """-> (what `chosen` leaves of the hashes of a text's passages (k,), and for each wanted hash its places (m,)).

    The hash itself says whether a passage is chosen, so of two texts the same passages are.
    """
    sample: list[Array] = []
    places: list[list[Array]] = [[] for _ in wanted]
    n = len(tokens) - length + 1
    for start in range(0, n, PIECE):
        hashes = _hashes(tokens[start : min(start + PIECE, n) + length - 1], length)
        sample.append(chosen(hashes))
        for found, one in zip(places, wanted, strict=True):
            found.append(start + np.flatnonzero(hashes == one))
    return np.concatenate(sample), *map(np.concatenate, places)


def _hashes(tokens: Array, length: int) -> Array:
    """The hash of each passage of `length` tokens, (n - length + 1,).

    Hashes of two halves make the hash of the whole, so the work is n log(length).
    """
    values = {1: tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x3243F6A8885A308D)}
    while (size := max(values)) * 2 <= length:
        values[size * 2] = _joined(values[size], values[size], size)
    whole, done = values[size], size
    for size in sorted(values, reverse=True)[1:]:
        if done + size <= length:
            whole, done = _joined(whole, values[size], done), done + size
    return whole


def _joined(left: Array, right: Array, distance: int) -> Array:
    """Hashes of pairs: left[i] with right[i + distance]. Arithmetic modulo 2**64."""
    n = len(right) - distance
    mixed = right[distance:] ^ (right[distance:] >> np.uint64(29))
    return left[:n] * np.uint64(0xD1342543DE82EF95) + mixed * np.uint64(0xBF58476D1CE4E5B9)


def _border(first: Any, second: Any, starts: Array, ends: Array, length: int) -> int:
    """How many tokens, at least `length`, `first` ends with and `second` begins with; 0 if none.

    starts: where in `first` stands what `second` begins with; ends: where in `second` what `first` ends with.
    """
    starts = starts[np.isin(len(first) - length - starts, ends)]
    for start in starts[:CANDIDATES]:
        if np.array_equal(first[start:], second[: len(first) - start]):
            return len(first) - int(start)
    return 0


def _occurs(passage: Array, tokens: Any) -> bool:
    """Whether `passage` (m,) stands somewhere in `tokens` (n,)."""
    n = len(tokens) - len(passage) + 1
    for start in range(0, n, PIECE):
        places = start + np.flatnonzero(tokens[start : min(start + PIECE, n)] == passage[0])
        for i, token in enumerate(passage):
            if not places.size:
                break
            places = places[tokens[places + i] == token]
        if places.size:
            return True
    return False
