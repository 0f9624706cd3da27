"""Byte-level BPE (Sennrich et al. 2016, Radford et al. 2019), encoded by Hugging Face's `tokenizers`.

A text is split into words by GPT-2's regular expression, a word becomes bytes, and pairs of tokens are merged, the
pair that stands first in the list of merges first. Files spell a byte as a printable character, see `BYTE_OF`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kernels.arrays import Array
from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import ByteLevelTokenizer, utf8

if TYPE_CHECKING:
    import tokenizers

LARGEST = 15 << 20  # characters, nearly, of the JSON text: a checkpoint has it inside its own, see `tensors.MAX_TEXT`
MOST_ADDED = 4096  # tokens that every text is searched for
LONGEST_TOKEN = 1024  # bytes; GPT-2's longest token has 128
_PART = 1 << 16  # characters that are encoded at a time: the library's results take about 100 bytes a token
_KNOWN = 1 << 20  # characters of words whose ids are kept
#: Unicode's White_Space, which is `\s` of GPT-2's expression (Python's also has U+001C..U+001F)
WHITESPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CUT = re.compile(f"(?<=[^{WHITESPACE}])[{WHITESPACE}]")
_CHUNK = re.compile(f"[{WHITESPACE}]*[^{WHITESPACE}]+|[{WHITESPACE}]+")  # from one cut to the next
#: Words of ASCII letters without what follows them, else chunks. No alternative of GPT-2's expression matches a letter
#: and something else behind it.
_WORD = re.compile(rf"[{WHITESPACE}]*[A-Za-z]+(?![A-Za-z\x80-\U0010ffff])|{_CHUNK.pattern}")


def _byte_of() -> dict[str, int]:
    """{character: byte} of GPT-2's spelling: printable bytes of Latin-1 as they are, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_of()


class BpeTokenizer(ByteLevelTokenizer):
    """Byte-level BPE with GPT-2's pre-tokenizer.

    tokens    V str, in order of their ids: in GPT-2's spelling of bytes, or literally where added
    merges    pairs of tokens, the first to be applied first
    special   names of tokens that no text is encoded to
    added     tokens that are found in a text before it is split into words

    Raises ValueError, one line, for what is not a byte-level BPE that encodes every text.
    """

    kind = "bpe"

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[tuple[str, str]],
        special: Iterable[str] = (),
        added: Iterable[str] = (),
    ) -> None:
        self.tokens, self.merges = tuple(tokens), tuple(merges)
        self._ids = {token: id for id, token in enumerate(self.tokens)}
        self._special, self._added = tuple(special), tuple(added)
        self._words = _CHUNK if self._added else _WORD  # an added token may have letters and something behind them
        self._known: dict[str, tuple[int, ...]] = {}  # the ids of words
        self._n_known = 0  # characters in it
        self._before: dict[str, tuple[int, ...]] = {}  # what _known was when it was full
        self._check()
        literal = {*self._special, *self._added}
        self.token_bytes = tuple(utf8(token) if token in literal else _spelled(token) for token in self.tokens)
        longest = max(range(len(self.token_bytes)), key=lambda id: len(self.token_bytes[id]))
        if (n := len(self.token_bytes[longest])) > LONGEST_TOKEN:
            raise ValueError(f"the token {brief(self.tokens[longest])} has {n} bytes; expected at most {LONGEST_TOKEN}")

    def _check(self) -> None:
        size = 2 * sum(map(len, self.tokens)) + 24 * len(self.tokens) + 160 * len((*self._special, *self._added))
        if size > LARGEST:
            raise ValueError(f"its {len(self.tokens):,} tokens take {size:,} characters; expected at most {LARGEST:,}")
        if missing := sorted(BYTE_OF[character] for character in BYTE_OF.keys() - self._ids.keys()):
            raise ValueError(f"its vocabulary has no token for the byte {missing[0]:#04x}; expected one for each byte")
        seen, made = set(), set(BYTE_OF)
        for pair in self.merges:
            left, right = pair
            for token in (left, right, left + right):
                if token not in self._ids:
                    raise ValueError(f"its merge of {brief(left)} and {brief(right)} needs {brief(token)}, "
                                     "which is not in the vocabulary")  # fmt: skip
            if pair in seen:
                raise ValueError(f"its merge of {brief(left)} and {brief(right)} stands twice")
            seen.add(pair)
            made.add(left + right)
        if len(self._added) > MOST_ADDED:
            raise ValueError(f"it has {len(self._added):,} added tokens; expected at most {MOST_ADDED:,}")
        for token in (*self._special, *self._added):
            if token in made:
                raise ValueError(f"{brief(token)} is made by merges, or is added twice; an added token may not be")
            if not token or token not in self._ids:
                raise ValueError(f"its added token {brief(token)} is not in the vocabulary")
            made.add(token)
        for token in self._added:
            if _CUT.search(token):
                raise ValueError(f"its added token {brief(token)} has whitespace behind other characters")

    @property
    def special_tokens(self) -> dict[str, int]:
        return {token: self._ids[token] for token in self._special}

    def encode(self, text: str, first: int = 0) -> Array:
        utf8(text, first)
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[Array]:
        """`encode` of each text; of many short ones faster than one by one."""
        split = []
        for text in texts:
            utf8(text)
            split.append(list(_parts(text)))
        ids = chain.from_iterable(map(self._encode, _batches(chain.from_iterable(split))))
        return [np.concatenate([np.empty(0, np.int64), *islice(ids, len(parts))]) for parts in split]

    def _encode(self, parts: list[str]) -> list[Array]:
        """The ids (n,) of each part. A word is encoded when it comes for the first time; most come again."""
        known, before = self._known, self._before  # another thread may put new ones in their place
        words = [self._words.findall(part) for part in parts]
        missing = [word for word in dict.fromkeys(chain.from_iterable(words)) if word not in known]
        known.update((word, before[word]) for word in missing if word in before)
        new = [word for word in missing if word not in before]
        if 4 * len(new) > 3 * sum(map(len, words)) or sum(map(len, new)) > _KNOWN:
            encoded = self._encoder.encode_batch_fast(parts, add_special_tokens=False)
            return [np.array(each.ids, np.int64) for each in encoded]
        for word, each in zip(new, self._encoder.encode_batch_fast(new, add_special_tokens=False), strict=True):
            known[word] = tuple(each.ids)
        self._n_known += sum(map(len, missing))
        ids = [np.fromiter(chain.from_iterable(map(known.__getitem__, each)), np.int64) for each in words]
        if self._n_known > _KNOWN:
            self._before, self._known, self._n_known = known, {}, 0
        return ids

    @cached_property
    def _encoder(self) -> "tokenizers.Tokenizer":
        """Hugging Face's tokenizer; it knows no special tokens, so that a text which spells one is text."""
        hf = hugging_face()
        encoder = hf.Tokenizer(hf.models.BPE(self._ids, list(self.merges)))
        encoder.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        encoder.add_tokens([hf.AddedToken(token, normalized=False) for token in self._added])
        return encoder

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "_encoder"}  # made anew where needed
        return {**state, "_before": {}, "_known": {}, "_n_known": 0}

    def to_json(self) -> dict[str, Any]:
        """Hugging Face's tokenizer.json, which has no "kind": its reader refuses keys that it does not know."""
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        places = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added = [
            {"id": self._ids[token], "content": token, **places, "special": token in self._special}
            for token in sorted((*self._special, *self._added), key=self._ids.__getitem__)
        ]
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                "vocab": dict(self._ids), "merges": [list(pair) for pair in self.merges],
            },
        }  # fmt: skip

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        from tiny_transformer_np.tokenizers.bpe_files import parts_of_tokenizer_json

        return cls(*parts_of_tokenizer_json(obj))


def hugging_face() -> Any:
    """The package `tokenizers`. One thread, unless TOKENIZERS_PARALLELISM says otherwise: a pool of threads does not
    survive a fork, and the package warns of that."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers


def _spelled(token: str) -> bytes:
    """The bytes of a token in GPT-2's spelling."""
    try:
        return bytes([BYTE_OF[character] for character in token])
    except KeyError as error:
        wrong = f"its token {brief(token)} has the character {error.args[0]!r}, which spells no byte"
        raise ValueError(f"{wrong}; expected a byte-level vocabulary as GPT-2's") from None


def _parts(text: str) -> Iterator[str]:
    """The text in parts of about _PART characters that have the same ids one by one as together.

    A part ends before whitespace that follows non-whitespace: no alternative of GPT-2's expression matches both, and
    the only one that looks ahead, `\\s+(?!\\S)`, begins behind that place. No added token reaches across either.
    """
    start = 0
    while cut := _CUT.search(text, start + _PART):
        yield text[start : cut.start()]
        start = cut.start()
    if start < len(text):
        yield text[start:]


def _batches(parts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of parts, of _PART characters at least but for the last."""
    batch: list[str] = []
    n = 0
    for part in parts:
        batch.append(part)
        n += len(part)
        if n >= _PART:
            yield batch
            batch, n = [], 0
    if batch:
        yield batch
