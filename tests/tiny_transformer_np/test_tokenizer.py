"""CharTokenizer: what goes in comes out, ids are places in the vocabulary, and unknown characters are named."""

import numpy as np
import pytest

from tiny_transformer_np import CharTokenizer

TEXTS = [
    "plain",
    "line\nbreaks\r\n\tand tabs\0",
    "naïve café, ﬁ",
    "e\u0301 is two characters, é one",  # a combining accent stays a character of its own
    "emoji \U0001f600 and family \U0001f468\u200d\U0001f469\u200d\U0001f467",  # beyond 16 bits
    "日本語 العربية",
]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text):
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert ids.min() == 0 and ids.max() == tokenizer.vocab_size - 1
    assert tokenizer.decode(ids) == text
    assert CharTokenizer(tokenizer.vocabulary).decode(ids) == text  # as a checkpoint brings it back


def test_the_vocabulary_is_in_order_of_code_points_and_over_all_texts():
    assert CharTokenizer.from_text("hello", "a \U0001f600é").vocabulary == " aehloé\U0001f600"
    assert CharTokenizer.from_text("ba").encode("abba").tolist() == [0, 1, 1, 0]


def test_a_vocabulary_in_any_order_keeps_its_ids():
    tokenizer = CharTokenizer("zam")
    assert tokenizer.encode("mazz").tolist() == [2, 1, 0, 0]
    assert tokenizer.decode([[0], [1]]) == "za"


@pytest.mark.parametrize(("text", "named", "position"), [("abxa", "'x'", 2), ("\U0001f600", "'\U0001f600'", 0),
                                                         ("a\n", r"'\\n'", 1), ("ab ", "' '", 2)])  # fmt: skip
def test_an_unknown_character_is_named(text, named, position):
    with pytest.raises(ValueError, match=rf"character {named} at position {position} is not among the 2 known"):
        CharTokenizer("ab").encode(text)


def test_empty_texts():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode(tokenizer.encode("")) == ""


@pytest.mark.parametrize("vocabulary", ["", "aba", "\U0001f600x\U0001f600"])
def test_unsound_vocabularies_are_refused(vocabulary):
    with pytest.raises(ValueError, match="each only once"):
        CharTokenizer(vocabulary)
