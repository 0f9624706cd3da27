"""Byte-level BPE from the files of other programs: Hugging Face's tokenizer.json, GPT-2's vocab.json and merges.txt.

What is read is not believed: the encoder's library gets what was checked here, and never the file itself.
"""

from typing import Any, TypeAlias

from kernels.system.printable import brief
from tiny_transformer_np.tokenizers.base import END_OF_TEXT

Pairs: TypeAlias = list[tuple[str, str]]
Parts: TypeAlias = tuple[list[str], Pairs, list[str], list[str]]  # the arguments of BpeTokenizer

_EXPECTED = "expected a byte-level BPE as GPT-2's"
#: settings of the model that change what it encodes, and their values in a byte-level BPE of GPT-2's kind
_PLAIN: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0.0), "continuing_subword_prefix": (None, ""), "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False), "ignore_merges": (None, False),
}  # fmt: skip


def parts_of_tokenizer_json(obj: dict[str, Any]) -> Parts:
    """The arguments of BpeTokenizer in Hugging Face's tokenizer.json. ValueError for another kind of tokenizer.

    Left out: truncation, padding and the post-processor, which add or drop tokens at the ends of a text.
    """
    if "kind" in obj:
        raise ValueError(f"it has the key 'kind', {brief(obj['kind'])}; {_EXPECTED}, which has no such key")
    model, normalizer = _table(obj, "model"), obj.get("normalizer")
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"its model is {brief(model.get('type'))}; {_EXPECTED}")
    if normalizer is not None:
        raise ValueError(f"its normalizer is {brief(_type(normalizer))}, which changes the text; {_EXPECTED}")
    _check_pre_tokenizer(obj.get("pre_tokenizer"))
    for key, plain in _PLAIN.items():
        if model.get(key) not in plain:
            raise ValueError(f"its model has {key} {brief(model[key])}; {_EXPECTED}, without it")
    ids = dict(_ids(model.get("vocab")))
    special: list[str] = []
    added: list[str] = []
    for token in _list(obj.get("added_tokens") or [], "added_tokens"):
        content, is_special = _added_token(token, ids)
        (special if is_special else added).append(content)
    return _in_order(ids), [_pair(each) for each in _list(model.get("merges"), "merges")], special, added


def parts_of_vocab_and_merges(vocab: dict[str, Any], merges: str) -> Parts:
    """The arguments of BpeTokenizer in the object of a vocab.json and the text of a merges.txt, as GPT-2 has them.

    <|endoftext|> is a special token where the vocabulary has it.
    """
    lines = merges.replace("\r\n", "\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    pairs = []
    for number, line in enumerate(lines, 1 + merges.startswith("#version")):
        pair = line.split(" ")
        if len(pair) == 2 and all(pair):
            pairs.append((pair[0], pair[1]))
        elif line:
            raise ValueError(f"line {number} of its merges is {brief(line)}; expected two tokens with a space between")
    if not pairs:
        raise ValueError("it has no merges; expected a line of two tokens for each")
    ids = _ids(vocab)
    return _in_order(ids), pairs, [END_OF_TEXT] if END_OF_TEXT in ids else [], []


def _check_pre_tokenizer(found: object) -> None:
    name = _type(found)
    if name != "ByteLevel" or not isinstance(found, dict):
        raise ValueError(f"its pre-tokenizer is {brief(name)}; {_EXPECTED}, whose pre-tokenizer is ByteLevel")
    if found.get("add_prefix_space") is not False:
        raise ValueError("its pre-tokenizer puts a space before every text; expected add_prefix_space false")
    if found.get("use_regex", True) is not True:
        raise ValueError("its pre-tokenizer does not split at words; expected use_regex true")


def _type(part: object) -> object:
    """The name of a component, for messages."""
    if not isinstance(part, dict):
        return part
    inside = next((part[key] for key in ("pretokenizers", "normalizers") if isinstance(part.get(key), list)), None)
    names = [str(_type(each)) for each in inside[:5]] if inside else []
    return f"{part.get('type')}{' of ' + ', '.join(names) if names else ''}"


def _added_token(token: object, ids: dict[str, int]) -> tuple[str, bool]:
    """(content, whether it is special) of an entry of added_tokens, whose id goes into `ids`."""
    content, id = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
    if not isinstance(token, dict) or not isinstance(content, str) or type(id) is not int:
        raise ValueError(f"its added token {brief(token)} has no content or no id")
    if (known := ids.setdefault(content, id)) != id:
        raise ValueError(f"its added token {brief(content)} has the id {brief(id)}, in the vocabulary {brief(known)}")
    special = token.get("special") is True
    if not special and any(token.get(key) for key in ("single_word", "lstrip", "rstrip")):
        raise ValueError(f"its added token {brief(content)} depends on what stands around it; expected single_word, "
                         "lstrip and rstrip false")  # fmt: skip
    return content, special


def _ids(vocab: object) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError(f"its vocabulary is {brief(vocab)}; expected an object of tokens and their ids")
    for token, id in vocab.items():
        if type(id) is not int or id < 0:
            raise ValueError(f"its token {brief(token)} has the id {brief(id)}; expected an integer, 0 or more")
    return vocab


def _in_order(ids: dict[str, int]) -> list[str]:
    """The tokens in order of their ids. ValueError unless those are 0, 1, 2, ..."""
    tokens = sorted(ids, key=ids.__getitem__)
    for place, token in enumerate(tokens):
        if (id := ids[token]) < place:
            raise ValueError(f"its tokens {brief(tokens[place - 1])} and {brief(token)} have the same id {id}")
        if id > place:
            raise ValueError(f"it has no token with the id {place}; expected all from 0 to the largest")
    return tokens


def _pair(merge: object) -> tuple[str, str]:
    """A merge: ["a", "b"], or "a b" as files had it up to version 0.19 of the library."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) and each for each in pair):
        raise ValueError(f"its merge {brief(merge)} is not a pair of tokens")
    return pair[0], pair[1]


def _table(obj: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(obj.get(key), dict):
        raise ValueError(f"its {key} is {brief(obj.get(key))}; {_EXPECTED}")
    return obj[key]


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"its {name} is {brief(value)}; expected a list")
    return value
