"""Text like natural language, the same bytes on every machine: words from a seed, with Zipf's frequencies.

Benchmarks and tests prepare and train on it. A word of rank r has a frequency proportional to 1 / (r + 2.7) (Zipf and
Mandelbrot), there are 100,000 of them, one in thirty with a letter beyond ASCII, and sentences have capitals, commas
and numbers. Documents have 20 to 20,000 words, most of them a few hundred. It takes about a second for 20 MB.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_WORDS = 100_000
_BLOCK = 1 << 16  # words drawn at a time
_ONSETS = ["", "b", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pr", "r", "s", "sh",
           "st", "t", "th", "tr", "v", "w", "z"]  # fmt: skip
_VOWELS = ["a", "e", "i", "o", "u", "ea", "ou", "ai", "y"]
_CODAS = ["", "", "", "n", "r", "s", "t", "l", "m", "nd", "ng", "ck", "st"]
_BEYOND_ASCII = ["é", "ü", "ñ", "ø", "ж", "λ", "語"]
_ENDINGS = [" ", ", ", ". ", ".\n"]  # of a word
_SHARES = [0.86, 0.07, 0.06, 0.01]  # of each ending
_OPENS = 2  # the endings from this one on are followed by a capital


def words(seed: int = 0) -> list[str]:
    """N_WORDS different words, the frequent ones short."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < N_WORDS:
        n_syllables = 1 + (len(found) > 150) * rng.randrange(2) + (len(found) > 3000) * rng.randrange(1, 3)
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(n_syllables))
        if rng.random() < 1 / 30:
            word += rng.choice(_BEYOND_ASCII)
        elif rng.random() < 1 / 50:
            word = str(rng.randrange(10 ** rng.randrange(1, 6)))
        found[word] = None
    return list(found)


def documents(n_bytes: int, seed: int = 0) -> Iterator[str]:
    """Documents of together n_bytes of UTF-8, or up to one word less."""
    lexicon = words()
    capitals = [word.capitalize() for word in lexicon]
    table = [word + ending for form in (lexicon, capitals) for ending in _ENDINGS for word in form]
    cumulated = np.cumsum(1.0 / (np.arange(N_WORDS) + 2.7))
    shares = np.cumsum(_SHARES[:-1])
    rng = np.random.RandomState(seed)  # its numbers are the same in every version of NumPy
    left, drawn, first = n_bytes, [], 0
    while True:
        n_words = int(np.clip(rng.lognormal(5.5, 1.2), 20, 20_000))
        if first + n_words > len(drawn):
            ranks = np.searchsorted(cumulated, rng.random_sample(_BLOCK) * cumulated[-1], side="right")
            endings = np.searchsorted(shares, rng.random_sample(_BLOCK), side="right")
            capital = np.concatenate([[True], endings[:-1] >= _OPENS])
            places = (capital * len(_ENDINGS) + endings) * N_WORDS + np.minimum(ranks, N_WORDS - 1)
            drawn, first = drawn[first:] + places.tolist(), 0
        document = "".join([table[place] for place in drawn[first : first + n_words]]).rstrip(" \n")
        first += n_words
        encoded = document.encode()
        if len(encoded) >= left:
            if last := encoded[:left].decode(errors="ignore"):
                yield last
            return
        left -= len(encoded)
        yield document


def write_text(path: Path, n_bytes: int, seed: int = 0) -> Path:
    """A plain text file of about n_bytes: the documents with an empty line between them."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number, document in enumerate(documents(n_bytes, seed)):
            file.write("\n\n" * (number > 0) + document)
    return path


def write_jsonl(path: Path, n_bytes: int, seed: int = 0) -> Path:
    """A JSON Lines file of documents that have together n_bytes of text."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for document in documents(n_bytes, seed):
            file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    return path
