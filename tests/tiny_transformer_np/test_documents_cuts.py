"""Long texts are cut where their tokens stay those of the whole, by the pre-tokenizers of GPT-2 and GPT-4."""

import random

import pytest
from tokenizers import Regex, pre_tokenizers

from tiny_transformer_np.corpus import cuts, work_units
from tiny_transformer_np.corpus.documents import find_sources, read, units

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
GPT4 = pre_tokenizers.Split(
    Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    behavior="isolated",
)
#: all of Unicode's white space, what Python takes for it, what once was, and what looks like it
SPACES = [
    *"\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2007\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
]
OTHERS = [*"aaab0127.,!-_'\"é日本ñ\u0301\u0660\0\U0001f600½", "'s", "'ll", "don't", "\r\n", "  ", "\n\n", " a", "\n"]


def words(tokenizer, text):
    return [word for word, _ in tokenizer.pre_tokenize_str(text)]


def random_text(rng, n):
    return "".join(rng.choice(SPACES if rng.random() < 0.35 else OTHERS) for _ in range(n))


def in_slices(rng, text):
    start = 0
    while start < len(text):
        end = start + rng.randint(1, 30)
        yield text[start:end]
        start = end


@pytest.mark.parametrize("seed", range(4))
def test_pieces_have_the_words_of_the_whole(seed):
    rng = random.Random(seed)
    n_pieces = 0
    for _ in range(200):
        text = random_text(rng, 100)
        found = list(cuts.pieces(in_slices(rng, text)))
        assert "".join(found) == text and all(found)
        assert [word for piece in found for word in words(GPT2, piece)] == words(GPT2, text), text
        n_pieces += len(found)
    assert n_pieces > 400


@pytest.mark.parametrize("seed", range(2))
def test_a_cut_is_in_a_place_that_other_pre_tokenizers_have_too_where_there_is_one(seed):
    """GPT-4's and Llama 3's have line breaks in the word of punctuation before them."""
    rng = random.Random(seed)
    for _ in range(500):
        text = random_text(rng, 40) + "a b" + rng.choice([".\n", "!\n\n", "1\n", "x "]) + "\t" * rng.randint(0, 3)
        cut = cuts.last_cut(text)
        for tokenizer in (GPT2, GPT4):
            assert words(tokenizer, text[:cut]) + words(tokenizer, text[cut:]) == words(tokenizer, text), text
    assert cuts.last_cut("日本。\n日本。\n") == len("日本。\n日本。")  # where there is no such place, GPT-2's counts


@pytest.mark.parametrize("bad", [r"(?s).*\S(?=\s)", r"(?s).*(?= )"])
def test_a_cut_in_another_place_is_found(bad, monkeypatch):
    """Before white space that is some to Python alone, or within a run of it."""
    monkeypatch.setattr(cuts, "_LAST", (cuts.re.compile(bad),))
    with pytest.raises(AssertionError):
        for seed in range(4):
            test_pieces_have_the_words_of_the_whole(seed)


@pytest.mark.parametrize("breaks", [None, "\r\n", "\r"])
@pytest.mark.parametrize("seed", range(2))
def test_ranges_of_a_file_have_the_words_of_the_whole(seed, breaks, tmp_path, monkeypatch):
    """Ranges are found in bytes, where a window may begin and end within a character and within a line break."""
    monkeypatch.setattr(work_units, "UNIT", 40)
    monkeypatch.setattr(work_units, "_WINDOWS", (9, 4096))
    rng = random.Random(seed)
    path = tmp_path / "a.txt"
    n_units = 0
    for _ in range(40):
        text = random_text(rng, 300)
        path.write_bytes((text if breaks is None else text.replace("\n", breaks)).encode())
        whole = path.read_text(encoding="utf-8").removeprefix("\ufeff")
        found = [list(read(unit)) for unit in units(find_sources([path]))]
        n_units += len(found)
        assert "".join(piece.text for unit in found for piece in unit) == whole
        assert [word for unit in found for piece in unit for word in words(GPT2, piece.text)] == words(GPT2, whole)
        assert [piece.ends_document for unit in found for piece in unit].count(True) == 1
        assert found[-1][-1].ends_document
    assert n_units > 200


def test_a_text_without_a_place_to_cut_is_cut_between_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(cuts, "LONGEST", 100)
    for text in ("x" * 1000, "日" * 1000, "\n" * 1000, "\r\n" * 1000, "x" * 60 + " " + "y" * 1000):
        found = list(cuts.pieces(text[i : i + 50] for i in range(0, len(text), 50)))
        assert "".join(found) == text and max(map(len, found)) <= 150
        monkeypatch.setattr(work_units, "UNIT", 256)
        monkeypatch.setattr(work_units, "_WINDOWS", (10, 20))
        (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
        parts = [part for unit in units(find_sources([tmp_path / "a.txt"])) for part in unit.parts]
        assert len(parts) == -(-len(text.encode()) // 256)
        joined = "".join(piece.text for unit in units(find_sources([tmp_path / "a.txt"])) for piece in read(unit))
        assert joined == text.replace("\r\n", "\n")


def test_words_that_cross_two_slices_are_whole():
    assert list(cuts.pieces(["one tw", "o three", " four"])) == ["one", " two", " three four"]
    assert list(cuts.pieces([])) == list(cuts.pieces([""])) == []
