"""Byte-level BPE from files: GPT-2's layout and Hugging Face's; what is damaged or of another kind is one line."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers as hf
from fuzzed_files import edit
from unicode_texts import random_texts

from tiny_transformer_np import ConfigError, tokenizers
from tiny_transformer_np.corpus.plan import Plan, Request
from tiny_transformer_np.tokenizers import BpeTokenizer, bpe, bpe_files, files

TEXT = "the model of this kind, the other kind: 12 models aren't of one kind\n" * 3 + " ".join(random_texts(30))
OWN = tokenizers.train("bpe", [TEXT], 330)


def gpt2_files(folder: Path, vocab="vocab.json", merges="merges.txt", tokens=OWN.tokens, pairs=OWN.merges) -> Path:
    """Write a vocabulary as GPT-2's authors did."""
    (folder / vocab).write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in pairs), ""]
    (folder / merges).write_text("\n".join(lines), encoding="utf-8")
    return folder


def same(tokenizer, other=OWN):
    return all(tokenizer.encode(text).tolist() == other.encode(text).tolist() for text in [TEXT, *random_texts(50, 1)])


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2s_files_are_read_by_folder_and_by_either_name(tmp_path, names):
    gpt2_files(tmp_path, *names)
    for path in (tmp_path, *(tmp_path / name for name in names)):
        loaded = tokenizers.load(path)
        assert loaded.to_json() == OWN.to_json() and same(loaded)
    assert loaded.special_tokens == {"<|endoftext|>": 329}


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_corpus_is_prepared_with_gpt2s_files_by_folder_and_by_either_name(tmp_path, names):
    gpt2_files(tmp_path, *names)
    both = {str(tmp_path / name) for name in names}
    for path in (tmp_path, *(tmp_path / name for name in names)):
        plan = Plan.of(Request(("text.txt",), tokenizer=str(path)), ([], []))
        assert {stamp[0] for stamp in plan.stamps["tokenizer"]} == both  # a change of either is noticed


def test_a_vocabulary_with_the_words_kind_and_model_is_one(tmp_path):
    """As GPT-2's is: these are names of fields in other files."""
    made = tokenizers.train("bpe", ["kind\nmodel\n" * 9], 400)
    assert {"kind", "model"} <= set(made.tokens)
    loaded = tokenizers.load(gpt2_files(tmp_path, tokens=made.tokens, pairs=made.merges) / "vocab.json")
    assert loaded.to_json() == made.to_json()


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: text.split("\n", 1)[1],
                                    lambda text: text.rstrip("\n"), lambda text: text + "\n\n"])  # fmt: skip
def test_merges_with_other_line_breaks_or_without_a_version_are_the_same(tmp_path, change):
    gpt2_files(tmp_path)
    (tmp_path / "merges.txt").write_bytes(change((tmp_path / "merges.txt").read_text(encoding="utf-8")).encode())
    assert tokenizers.load(tmp_path).to_json() == OWN.to_json()


def test_a_vocabulary_without_a_special_token_has_none(tmp_path):
    loaded = tokenizers.load(gpt2_files(tmp_path, tokens=OWN.tokens[:-1]))
    assert loaded.special_tokens == {} and loaded.end_of_text is None and loaded.vocab_size == 329 and same(loaded)


# ----------------------------------------------------------------------------------------------- tokenizer.json


def test_hugging_faces_reader_takes_what_is_written_here_and_the_other_way_round(tmp_path):
    for name, ensure_ascii in (("tokenizer.json", False), ("other.json", True)):
        (tmp_path / name).write_text(json.dumps(OWN.to_json(), ensure_ascii=ensure_ascii), encoding="utf-8")
        library = hf.Tokenizer.from_file(str(tmp_path / name))
        for text in [TEXT, *random_texts(50)]:
            assert library.encode(text).ids == OWN.encode(text).tolist() and library.decode(OWN.encode(text)) == text
        assert library.token_to_id("<|endoftext|>") == 329 and library.get_vocab_size() == 330
    library.save(str(tmp_path / "saved.json"))
    for path in (tmp_path, tmp_path / "other.json", tmp_path / "saved.json"):
        assert tokenizers.load(path).to_json() == OWN.to_json()


def with_added_tokens():
    """What other programs write: merges as texts, tokens of whitespace, a post-processor and truncation."""
    obj = OWN.to_json()
    obj["model"]["merges"] = [" ".join(pair) for pair in obj["model"]["merges"]]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    for id, (content, special) in enumerate([("    ", False), ("  ", False), ("<tag>", False), ("<pad>", True)], 330):
        obj["added_tokens"].append({"id": id, "content": content, **plain, "special": special})
    obj["added_tokens"][-1]["lstrip"] = True  # of a special token no text is encoded to
    obj["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    obj["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return obj


def test_added_tokens_are_found_in_texts_and_special_ones_are_not(monkeypatch):
    loaded = tokenizers.from_json(with_added_tokens())
    library = hf.Tokenizer.from_str(json.dumps(with_added_tokens()))
    library.no_truncation()
    library.encode_special_tokens = True
    assert loaded.vocab_size == 334 and loaded.special_tokens == {"<|endoftext|>": 329, "<pad>": 333}
    rng = random.Random(0)
    for length in (64, 1 << 16):
        monkeypatch.setattr(bpe, "_PART", length)
        for _ in range(50):
            words = rng.choices(["a", "the", " ", "  ", "   ", "\n", ".", "<tag>", "<pad>", "<|endoftext|>", "é"], k=60)
            text = "".join(words)
            ids = loaded.encode(text)
            assert ids.tolist() == library.encode(text).ids and loaded.decode(ids) == text
            assert loaded.bytes_per_token()[ids].sum() == len(text.encode())
    assert tokenizers.from_json(json.loads(json.dumps(loaded.to_json()))).to_json() == loaded.to_json()


def changed(*path):
    """A change of tokenizer.json: the value at the end of `path` goes where the keys before it lead."""

    def change(obj):
        *keys, last, value = path
        for key in keys:
            obj = obj[key]
        obj[last] = value

    return change


def vocab(**ids):
    return lambda obj: obj["model"]["vocab"].update(ids)


def drop(token):
    return lambda obj: obj["model"]["vocab"].pop(token)


def add(**entry):
    token = {"id": 330, "content": "<new>", "special": False, **entry}
    return lambda obj: obj["added_tokens"].append(token)


def merge(*pair):
    return lambda obj: obj["model"]["merges"].append(list(pair))


SEQUENCE = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(a+)+$"}},
                                                  {"type": "ByteLevel", "add_prefix_space": False}]}  # fmt: skip
LONG = "a" * 1025
REFUSED = [
    (changed("model", "type", "Unigram"), "its model is 'Unigram'; expected a byte-level BPE as GPT-2's"),
    (changed("model", None), "it has no model, and there is no merges.txt beside it"),
    (changed("pre_tokenizer", None), "its pre-tokenizer is None; expected a byte-level BPE"),
    (changed("pre_tokenizer", {"type": "Metaspace"}), "its pre-tokenizer is 'Metaspace'; expected"),
    (changed("pre_tokenizer", SEQUENCE), "its pre-tokenizer is 'Sequence of Split, ByteLevel'; expected"),
    (changed("pre_tokenizer", "add_prefix_space", True), "puts a space before every text; expected add_prefix_space"),
    (changed("pre_tokenizer", "use_regex", False), "does not split at words; expected use_regex true"),
    (changed("normalizer", {"type": "NFC"}), "its normalizer is 'NFC', which changes the text; expected"),
    (changed("model", "dropout", 0.1), "its model has dropout 0.1; expected"),
    (changed("model", "byte_fallback", True), "its model has byte_fallback True; expected"),
    (changed("model", "ignore_merges", True), "its model has ignore_merges True; expected"),
    (changed("model", "end_of_word_suffix", "</w>"), "its model has end_of_word_suffix '</w>'; expected"),
    (changed("model", "vocab", []), "its vocabulary is []; expected an object"),
    (changed("model", "vocab", {}), "its vocabulary is {}; expected an object"),
    (changed("model", "merges", None), "its merges is None; expected a list"),
    (changed("model", "merges", 0, "t"), "its merge 't' is not a pair"),
    (changed("model", "merges", 0, "t h e"), "its merge 't h e' is not a pair"),
    (changed("model", "merges", 0, ["t", 3]), "its merge ['t', 3] is not a pair"),
    (changed("model", "merges", 0, ["t", ""]), "its merge ['t', ''] is not a pair"),
    (changed("added_tokens", 5), "its added_tokens is 5; expected a list"),
    (changed("added_tokens", [5]), "its added token 5 has no content or no id"),
    (changed("added_tokens", 0, "id", 3), "its added token '<|endoftext|>' has the id 3, in the vocabulary 329"),
    (vocab(new=1.0), "its token 'new' has the id 1.0; expected an integer, 0 or more"),
    (vocab(new=True), "its token 'new' has the id True; expected an integer"),
    (vocab(new=-1), "its token 'new' has the id -1; expected an integer"),
    (vocab(new=10**400), "it has no token with the id 330; expected all from 0 to the largest"),
    (vocab(new=331), "it has no token with the id 330; expected all"),
    (vocab(new=5), "have the same id 5"),
    (vocab(**{"a b": 330}), "its token 'a b' has the character ' ', which spells no byte"),
    (vocab(**{"\x1b": 330}), r"its token '\x1b' has the character '\x1b', which spells no byte"),
    (vocab(**{"\ud800": 330}), r"has the character '\ud800', which spells no byte"),
    (vocab(**{LONG: 330}), "has 1025 bytes; expected at most 1024"),
    (lambda obj: (drop("!")(obj), vocab(new=0)(obj)), "its vocabulary has no token for the byte 0x21; expected one"),
    (merge("zz", "y"), "its merge of 'zz' and 'y' needs 'zz', which is not in the vocabulary"),
    (merge("z", "y"), "its merge of 'z' and 'y' needs 'zy', which is not in the vocabulary"),
    (merge(*OWN.merges[0]), "stands twice"),
    (add(), None),
    (add(content=""), "its added token '' is not in the vocabulary"),
    (add(content="\ud800"), r"'\ud800' at position 0 is half of a surrogate pair"),
    (add(content="a b"), "its added token 'a b' has whitespace behind other characters"),
    (add(rstrip=True), "its added token '<new>' depends on what stands around it; expected"),
    (add(single_word=True), "its added token '<new>' depends on what stands around it; expected"),
    (add(content="a", id=OWN.tokens.index("a")), "'a' is made by merges, or is added twice"),
    (lambda obj: (add()(obj), add(special=True)(obj)), "'<new>' is made by merges, or is added twice"),
    (lambda obj: [add(content=f"<{i}>", id=330 + i)(obj) for i in range(5000)], "it has 5,000 added tokens; expected"),
    (lambda obj: [vocab(**{"a" * i: 328 + i})(obj) for i in range(2, 4000)], "tokens take "),
    (changed("kind", "bpe"), "it has the key 'kind', 'bpe'; expected"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[f"{i} {said}"[:50] for i, (_, said) in enumerate(REFUSED)])
def test_a_tokenizer_json_that_is_damaged_or_of_another_kind_is_one_line(tmp_path, change, said):
    obj = OWN.to_json()
    change(obj)
    (tmp_path / "tokenizer.json").write_text(json.dumps(obj))
    if said is None:  # the entry that others change is sound
        assert tokenizers.load(tmp_path).vocab_size == 331
        return
    with pytest.raises(ConfigError) as refused:
        tokenizers.load(tmp_path)
    message = str(refused.value)
    assert said in message and str(tmp_path) in message and len(message.splitlines()) == 1 and len(message) < 500


def test_random_damage_is_refused_or_leaves_a_tokenizer_that_works():
    rng, n_refused = np.random.default_rng(0), 0
    for _ in range(200):
        obj = copy.deepcopy(with_added_tokens())
        edits = [edit(rng, obj) for _ in range(int(rng.integers(1, 3)))]
        try:
            tokenizer = tokenizers.from_json(obj)
        except ValueError as error:
            n_refused += 1
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 500, edits
        else:
            assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT, edits
    assert 20 < n_refused < 180


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("vocab.json", b"", "cannot be used: Expecting value"), ("vocab.json", b"[1]", "expected an object"),
     ("vocab.json", b'{"a": 0, "a": 1}', "the key 'a' stands twice"), ("vocab.json", b"\xff\xfe", "is not UTF-8 text"),
     ("vocab.json", b'{"a": 1e999}', "too large"), ("vocab.json", b"[" * 10**6, "nested too deep"),
     ("vocab.json", b'{"kind": "words"}', "it is of kind 'words'; expected one of char, byte, bpe, ids"),
     ("vocab.json", b'{"kind": "char", "vocabulary": "aa"}', "each only once"),
     ("merges.txt", b"", "it has no merges"), ("merges.txt", b"#version: 0.2\n", "it has no merges"),
     ("merges.txt", b"#version: 0.2\na b c\n", "line 2 of its merges is 'a b c'; expected two tokens"),
     ("merges.txt", b"a b\n c\n", "line 2 of its merges is ' c'; expected two tokens"),
     ("merges.txt", b"a b\n", "its merge of 'a' and 'b' needs 'ab', which is not in the vocabulary"),
     ("merges.txt", b"\xff", "merges.txt is not UTF-8 text (byte 0)"), ("merges.txt", None, "there is no merges.txt"),
     ("vocab.json", None, "there is no tokenizer in")],
)  # fmt: skip
def test_a_damaged_file_is_one_line(tmp_path, name, content, said):
    gpt2_files(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        tokenizers.load(tmp_path)
    message = str(refused.value)
    assert said in message and str(tmp_path) in message and len(message.splitlines()) == 1 and len(message) < 500


def test_a_file_that_is_missing_or_huge_or_a_pipe_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"cannot read tokenizer .*other.json: No such file"):
        tokenizers.load(tmp_path / "other.json")
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="it has more than 67,108,864 bytes"):
        tokenizers.load(tmp_path / "huge.json")
    (tmp_path / "long.json").write_bytes(b" " * (files.MAX_TEXT + 1))
    with pytest.raises(ConfigError, match="a JSON text of 16,777,217 characters; expected at most"):
        tokenizers.load(tmp_path / "long.json")
    with pytest.raises(ConfigError, match="cannot read tokenizer"):
        tokenizers.load("/dev/null")


# ---------------------------------------------------------------------------------- transformers' ids


@pytest.mark.transformers
def test_ids_of_gpt2s_files_are_those_of_transformers(tmp_path):
    """On 1,000 random texts; there a special token that a text spells out is special, unless they are split."""
    from transformers import GPT2TokenizerFast

    trained = tokenizers.train("bpe", [TEXT, Path(bpe_files.__file__).read_text(encoding="utf-8")], 1200)
    gpt2_files(tmp_path, tokens=trained.tokens, pairs=trained.merges)
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    loaded = tokenizers.load(tmp_path)
    assert isinstance(loaded, BpeTokenizer) and loaded.vocab_size == len(theirs)
    for text in [*random_texts(1000, 3), TEXT, Path(__file__).read_text(encoding="utf-8"), "a<|endoftext|>b"]:
        assert loaded.encode(text).tolist() == theirs(text, split_special_tokens=True)["input_ids"], text
    theirs.save_pretrained(tmp_path / "saved")
    assert tokenizers.load(tmp_path / "saved").to_json() == loaded.to_json()
