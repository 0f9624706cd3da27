"""Tokenizers from files: those of `to_json`, Hugging Face's tokenizer.json, GPT-2's vocab.json and merges.txt."""

from pathlib import Path
from typing import Any

from kernels.system.files import StrPath, is_folder, open_regular
from kernels.system.printable import brief
from kernels.system.tensors import MAX_TEXT, parse_json
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.tokenizers.base import Tokenizer
from tiny_transformer_np.tokenizers.bpe import BpeTokenizer
from tiny_transformer_np.tokenizers.bpe_files import parts_of_vocab_and_merges
from tiny_transformer_np.tokenizers.bytes import ByteTokenizer
from tiny_transformer_np.tokenizers.characters import CharTokenizer
from tiny_transformer_np.tokenizers.ids import IdTokenizer

TOKENIZER_JSON = "tokenizer.json"
#: file of the vocabulary -> file of the merges, in one folder: as `transformers` names them, and as GPT-2's code did
_MERGES = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}
#: all names that a tokenizer's files have in a folder
NAMES = (TOKENIZER_JSON, *_MERGES, *_MERGES.values())
KINDS: dict[str, type[Tokenizer]] = {
    each.kind: each for each in (CharTokenizer, ByteTokenizer, BpeTokenizer, IdTokenizer)
}


def beside(name: str) -> list[str]:
    """The names of the files without which a file of this name is no tokenizer: merges for a vocabulary, and back."""
    return [pair[pair[0] == name] for pair in _MERGES.items() if name in pair]


def from_json(obj: object) -> Tokenizer:
    """The tokenizer that `to_json` gave this object for. ValueError, one line, for any other object."""
    if not isinstance(obj, dict):
        raise ValueError(f"a tokenizer is {brief(obj)}; expected an object")
    kind: Any = obj.get("kind", BpeTokenizer.kind)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"it is of kind {brief(kind)}; expected one of {', '.join(KINDS)}")
    return KINDS[kind].from_json(obj)


def load(path: StrPath) -> Tokenizer:
    """A tokenizer from a file or a folder. ConfigError, one line with the path, for what is none.

    A tokenizer.json as `prepare` or Hugging Face writes it, a vocab.json beside its merges.txt (or encoder.json and
    vocab.bpe, as OpenAI named them), or the folder of either.
    """
    file = Path(path)
    if is_folder(file):
        names = (TOKENIZER_JSON, *_MERGES)
        found = next((name for name in names if (file / name).exists()), None)
        if found is None:
            raise ConfigError(f"there is no tokenizer in {path}: expected one of {', '.join(names)}")
        file /= found
    by_merges = {merges: vocab for vocab, merges in _MERGES.items()}
    file = file.with_name(by_merges.get(file.name, file.name))
    try:
        obj = parse_json(_text(file))
        if isinstance(obj.get("kind"), str) or isinstance(obj.get("model"), dict):  # GPT-2 has tokens of these names
            return from_json(obj)
        merges = file.with_name(_MERGES.get(file.name, "merges.txt"))
        if not merges.exists():
            raise ValueError(f"it has no model, and there is no {merges.name} beside it")
        return BpeTokenizer(*parts_of_vocab_and_merges(obj, _text(merges)))
    except ValueError as error:
        raise ConfigError(f"tokenizer {file} cannot be used: {error}") from None


def _text(file: Path) -> str:
    try:
        with open_regular(file, "rb") as opened:
            data = opened.read(4 * MAX_TEXT + 1)
    except OSError as error:
        raise ConfigError(f"cannot read tokenizer {file}: {error.strerror}") from None
    if len(data) > 4 * MAX_TEXT:
        raise ConfigError(f"tokenizer {file} cannot be used: it has more than {4 * MAX_TEXT:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"tokenizer {file} is not UTF-8 text (byte {error.start})") from None
