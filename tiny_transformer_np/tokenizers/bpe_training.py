"""A vocabulary of byte-level BPE from texts: words are counted here, in bounded memory, and merged by Hugging Face.

Its trainer takes texts, not counts, and about 100 bytes for each byte of different words. So it gets a text that has
every counted word as often as it was counted.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from tiny_transformer_np.tokenizers.base import END_OF_TEXT, utf8
from tiny_transformer_np.tokenizers.bpe import BYTE_OF, WHITESPACE, BpeTokenizer, hugging_face
from tiny_transformer_np.tokenizers.bpe_files import parts_of_tokenizer_json

SAMPLE_BYTES = 1 << 28  # text of which a vocabulary is made: of more, an evenly spread part will do
LONGEST_MADE = 128  # bytes of a token
MIN_FREQUENCY = 2  # of a pair that is merged
_DIFFERENT = 1 << 22  # bytes of different words that are kept
_MERGED = 1 << 26  # bytes of text that the trainer gets
_FED = 1 << 14  # bytes of one piece of it; the trainer holds 256 at a time

#: Whitespace and what follows up to the next. GPT-2's expression splits none of these differently where it stands in a
#: text and where it stands alone, but for those that are longer than the limit.
_WORD = re.compile(f"[{WHITESPACE}]{{0,4096}}[^{WHITESPACE}]{{1,4096}}|[{WHITESPACE}]{{1,4096}}")


def train_bpe(pieces: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """Byte-level BPE with at most vocab_size tokens: 256 bytes, what merges make, and <|endoftext|> as the last.

    A small text has fewer pairs that occur twice, and gives a smaller vocabulary. Of a text of more than 64 MB the
    trainer gets that much, in which each word has its share. The result is a function of the pieces and of the version
    of `tokenizers`. ValueError for a vocab_size below 257, or half of a surrogate pair.
    """
    if type(vocab_size) is not int or not 257 <= vocab_size <= 1 << 18:
        raise ValueError(f"vocab_size is {vocab_size}; expected 257 (256 bytes and {END_OF_TEXT}) to {1 << 18}")
    hf = hugging_face()
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size - 1, min_frequency=MIN_FREQUENCY, show_progress=False,
        initial_alphabet=sorted(BYTE_OF), max_token_length=LONGEST_MADE,
    )  # fmt: skip
    tokenizer.train_from_iterator(_text_of(count_words(pieces)), trainer)
    tokens, merges, _, _ = parts_of_tokenizer_json(json.loads(tokenizer.to_str()))
    return BpeTokenizer([*tokens, END_OF_TEXT], merges, [END_OF_TEXT])


def count_words(pieces: Iterable[str]) -> Counter[str]:
    """{word with the whitespace before it: count} of a text in pieces, in order of first appearance.

    Where the different words take more than _DIFFERENT bytes, the rarest are thinned out.
    """
    counts: Counter[str] = Counter()
    size, position, rng = 0, 0, Random(0)
    for piece in pieces:
        utf8(piece, position)
        position += len(piece)
        before = len(counts)
        counts.update(_WORD.findall(piece))
        size += sum(len(word.encode()) for word in islice(reversed(counts), len(counts) - before))
        if size > _DIFFERENT:
            counts, size = _thinned_out(counts, size, rng)
    return counts


def _thinned_out(counts: Counter[str], size: int, rng: Random) -> tuple[Counter[str], int]:
    """Counts of words that take half of _DIFFERENT bytes at most, and how many bytes that are.

    Of the words that stand once a random half is dropped, and the others count twice; then of those that stand twice at
    most, and so on. That leaves the expected counts as they are.
    """
    rare = 1
    while size > _DIFFERENT // 2:
        for word in [word for word, n in counts.items() if n <= rare]:
            if rng.getrandbits(1):
                counts[word] *= 2
            else:
                size -= len(word.encode())
                del counts[word]
        rare *= 2
    return Counter(dict(counts)), size  # a new dict: the old one keeps the places of what it lost


def _text_of(counts: Counter[str]) -> Iterator[str]:
    """Pieces of a text in which every word is as often as it was counted, or in proportion, where that is too long.

    Words that begin with whitespace and end with something else stand side by side. Each other one is a piece, since
    it would grow together with its neighbour.
    """
    total = sum(n * len(word.encode()) for word, n in counts.items())
    given, seen = 0, 0  # words
    for word, n in counts.items():
        seen += n
        copies = n if total <= _MERGED else seen * _MERGED // total - given
        given += copies
        joins = word[0].isspace() and not word[-1].isspace()
        at_once = max(1, _FED // len(word.encode())) if joins else 1
        for left in range(copies, 0, -at_once):
            yield word * min(left, at_once)
