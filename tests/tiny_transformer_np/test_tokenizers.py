"""Every kind of tokenizer: round trips, streams of whole characters, JSON, and what is refused."""

import itertools
import json
import pickle
import random
import sys

import numpy as np
import pytest
from unicode_texts import random_text, random_texts

from tiny_transformer_np import tokenizers
from tiny_transformer_np.tokenizers import ByteTokenizer, CharTokenizer, IdTokenizer, bpe

TEXTS = [
    "",
    "plain words, it's 1234 of them\n\n  and lines \r\n\ttabs\0 NUL",
    "naïve café ﬁ e\u0301 A\u030a\u0327",  # composed, and a letter with two marks
    "emoji \U0001f600, family \U0001f468\u200d\U0001f469\u200d\U0001f467, flag \U0001f1e9\U0001f1ea, \u2764\ufe0f",
    "日本語 العربية עברית \u202eoverride\u202c ไทย हिन्दी",
    "\ufeff mark, \u2028 separator, \uffff\ufdd0 no characters, \U0010ffff the last",
    "<|endoftext|> spelled out <|endoftext|><|end",
    " ", "\n" * 9, "a" * 300, "\x1c\x1f.\x1c",
]  # fmt: skip
KINDS = ("char", "byte", "bpe")


@pytest.fixture(scope="module")
def made():
    """{kind: tokenizer} of TEXTS."""
    return {kind: tokenizers.train(kind, TEXTS * 3, 420) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_in_comes_out_whole_and_as_a_stream(made, kind):
    tokenizer = made[kind]
    for text in [*TEXTS, *(random_texts(300) if kind != "char" else [])]:
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int64 and ids.ndim == 1 and tokenizer.decode(ids) == text
        assert not len(ids) or 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
        assert tokenizer.bytes_per_token()[ids].sum() == len(text.encode())
        stream, shown = tokenizer.stream(), ""
        for id in ids.tolist():
            shown += stream.feed(id)
            assert text.startswith(shown)  # whole characters, and no U+FFFD for a part of one
        assert shown == text and stream.end() == ""


def test_every_character_of_unicode_comes_back(made):
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))
    assert made["bpe"].decode(made["bpe"].encode(every)) == every


@pytest.mark.parametrize("kind", KINDS)
def test_any_ids_are_text_and_a_stream_shows_what_decode_shows(made, kind):
    """Also where their bytes are not UTF-8, as an untrained model has it."""
    tokenizer, rng = made[kind], np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(0, tokenizer.vocab_size, rng.integers(30))
        stream = tokenizer.stream()
        assert "".join(map(stream.feed, ids.tolist())) + stream.end() == tokenizer.decode(ids)


def test_half_a_character_is_held_back_until_it_is_whole_or_cannot_be():
    tokenizer = ByteTokenizer()
    stream = tokenizer.stream()
    assert [stream.feed(byte) for byte in "é\U0001f600".encode()] == ["", "é", "", "", "", "\U0001f600"]
    assert [stream.feed(byte) for byte in b"\xf0\x9fa"] == ["", "", "\ufffda"]
    assert stream.feed(0xC3) == "" and stream.end() == "\ufffd"


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_special_token_in_a_text_is_text(made, kind):
    tokenizer = made[kind]
    end = tokenizer.end_of_text
    assert tokenizer.special_tokens == {"<|endoftext|>": end} and end == tokenizer.vocab_size - 1
    assert end not in tokenizer.encode("a<|endoftext|>b<|endoftext|>")
    assert tokenizer.decode([end]) == "<|endoftext|>" and tokenizer.bytes_per_token()[end] == 0


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize(("text", "said"), [("\ud800", "'\\ud800' at position 0 is"), ("ab\udfffc", "at position 2"),
                                            ("\U0001f600\ud83d\ude00", "at position 1")])  # fmt: skip
def test_half_of_a_surrogate_pair_is_refused_with_its_position(made, kind, text, said):
    with pytest.raises(ValueError) as refused:
        made[kind].encode(text)
    assert said in str(refused.value) and "half of a surrogate pair" in str(refused.value)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        made[kind].encode_batch(["a", text])
    with pytest.raises(ValueError, match=r"at position 1\d\d is half"):
        made[kind].encode(text, first=100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id", [-1, 10**6, 2**63, 2**70, 0.5])
def test_an_id_outside_of_the_vocabulary_is_refused(made, kind, id):
    tokenizer = made[kind]
    for use in (tokenizer.stream().feed, lambda id: tokenizer.decode([0, id])):
        with pytest.raises(
            ValueError, match=rf"the id {id} is not one of 0\.\.{tokenizer.vocab_size - 1}|have the dtype"
        ):
            use(id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_texts_one_by_one(made, kind):
    batch = made[kind].encode_batch(iter(TEXTS))
    assert [ids.tolist() for ids in batch] == [made[kind].encode(text).tolist() for text in TEXTS]


@pytest.mark.parametrize("kind", [*KINDS, "ids"])
def test_json_and_pickle_bring_the_same_tokenizer_back(made, kind):
    tokenizer = (made | {"ids": IdTokenizer(70_000)})[kind]
    text = json.dumps(tokenizer.to_json())
    for again in (tokenizers.from_json(json.loads(text)), pickle.loads(pickle.dumps(tokenizer))):
        assert type(again) is type(tokenizer) and again.kind == kind and json.dumps(again.to_json()) == text
        assert again.vocab_size == tokenizer.vocab_size and again.special_tokens == tokenizer.special_tokens
        if kind != "ids":
            np.testing.assert_array_equal(again.encode(TEXTS[1]), tokenizer.encode(TEXTS[1]))


@pytest.mark.parametrize("obj", [None, [], "char", {}, {"kind": "words"}, {"kind": ["char"]}, {"kind": None},
                                 {"kind": "char"}, {"kind": "char", "vocabulary": 3}, {"kind": "byte", "x": 1},
                                 {"kind": "char", "vocabulary": "aa"}, {"kind": "char", "vocabulary": "\ud800"},
                                 {"kind": "ids"}, {"kind": "ids", "vocab_size": 0}, {"kind": "ids", "vocab_size": 1e3},
                                 {"kind": "ids", "vocab_size": 10**5000}, {"model": {}}])  # fmt: skip
def test_an_object_that_is_no_tokenizer_is_refused_in_one_line(obj):
    with pytest.raises(ValueError) as refused:
        tokenizers.from_json(obj)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_ids_are_shown_and_read_as_numbers():
    tokenizer = IdTokenizer(50_257)
    assert tokenizer.decode([[5, 50_256], [0, 7]]) == "5 50256 0 7"
    assert tokenizer.encode(" 5,50256\n0, 7 ").tolist() == [5, 50_256, 0, 7] and not len(tokenizer.encode(" , "))
    stream = tokenizer.stream()
    assert [*map(stream.feed, [5, 50_256]), stream.end()] == ["5", " 50256", ""]
    assert tokenizer.end_of_text is None and not tokenizer.bytes_per_token().any()
    for word, position in (("50257", 3), ("-1", 3), ("x", 3), ("1.0", 3), ("9" * 5000, 3), ("²", 3)):
        with pytest.raises(ValueError, match=rf"at position {position} is not an id; expected integers from 0 to"):
            tokenizer.encode(f"12 {word}")


def test_characters_have_no_token_between_documents():
    assert CharTokenizer("ab\n").end_of_text is None and CharTokenizer("ab").special_tokens == {}


@pytest.mark.parametrize("letters", ["abcde", "abcde \n", "abcdefghijklmnopqrstuvwxyz      "])
def test_a_text_of_many_parts_has_the_ids_of_the_whole(made, monkeypatch, letters):
    """Also where one word is longer than a part, and than all words whose ids are kept."""
    monkeypatch.setattr(bpe, "_PART", 500)
    monkeypatch.setattr(bpe, "_KNOWN", 2000)
    text = "".join(np.array(list(letters))[np.random.default_rng(1).integers(0, len(letters), 20_000)])
    tokenizer = pickle.loads(pickle.dumps(made["bpe"]))
    ids = tokenizer.encode(text)
    (encoded,) = tokenizer._encoder.encode_batch([text], add_special_tokens=False)
    assert ids.tolist() == encoded.ids and tokenizer.decode(ids) == text
    assert sum(map(len, tokenizer._known)) <= 2000 and len(tokenizer._before) <= 2000


def test_words_that_are_encoded_once_have_the_ids_that_they_have_in_the_text(made):
    tokenizer = pickle.loads(pickle.dumps(made["bpe"]))
    kinds = ["ascii", "contractions", "latin", "numbers", "whitespace", "combining", "emoji"]
    rng, once, split = random.Random(2), [], tokenizer._encoder.pre_tokenizer.pre_tokenize_str
    for i in range(700):
        mixed = "".join(random_text(rng, rng.choice([kinds[i % 7], "ascii", "contractions"]), 12) for _ in range(8))
        text = mixed * 5  # so that most words come again
        (encoded,) = tokenizer._encoder.encode_batch([text], add_special_tokens=False)
        assert tokenizer.encode(text).tolist() == encoded.ids, text
        alone = [piece for word in tokenizer._words.findall(text) for piece, _ in split(word)]
        assert alone == [piece for piece, _ in split(text)], text
        once += [word for word in set(tokenizer._words.findall(text)) if word in tokenizer._known]
    assert len(once) > 3000


def test_a_large_vocabulary_of_any_script_fits_into_a_checkpoint():
    spelling = {byte: character for character, byte in bpe.BYTE_OF.items()}
    letters = ["".join(spelling[byte] for byte in letter.encode()) for letter in "абвгдежзийклмнопрстуфхцчшщъыьэюя"]
    tokens, merges = list(bpe.BYTE_OF), []
    for parts in itertools.chain(letters, itertools.product(letters, repeat=2), itertools.product(letters, repeat=3)):
        left, right = "".join(parts[:-1]), parts[-1]
        merges.append((left, right))
        tokens.append(left + right)
    more = [f"Ġ{token}" for token in tokens[256:]]
    merges += [("Ġ", token) for token in tokens[256:]]
    tokenizer = bpe.BpeTokenizer([*tokens, *more], merges)
    text = json.dumps(tokenizer.to_json(), ensure_ascii=False)
    assert tokenizer.vocab_size > 60_000 and len(text) * 200_000 / tokenizer.vocab_size < bpe.LARGEST
