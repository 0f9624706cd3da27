"""Whether a run's data are the data that its checkpoint was trained on; if not, what has changed.

A checkpoint's "data": "train" and "val", digests of the tokens to train on and to validate. Of texts these are sha256
of the ids as int64; there are also "files", a sha256 of each file in the order of --data and --val-data, since 0.2.0
"byte_order_marks", whether these were kept as characters, and "plain_text", whether every file was read as text
whatever its name, as up to 0.2.0. Of prepared folders and files of ids the digests are made of the files' checksums,
and there is "corpus", that of the whole.
"""

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernels.system.printable import brief
from tiny_transformer_np import tokenizers
from tiny_transformer_np.config import TrainingConfig
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.tokenizers import CharTokenizer, Tokenizer
from tiny_transformer_np.training.checkpoint_schema import Meta

MOST_FILES = 1000  # of which a checkpoint has a digest each; of more it has one of all
_HASHED = 1 << 16  # ids that are hashed at a time
_ADVICE = "give the same --data and --val-data"
_PARTS = {"train": "to train on", "val": "to validate"}


@dataclass(frozen=True)
class Identity:
    """What a checkpoint says of data. paths: of the files in its "files", for messages."""

    digests: Callable[[], Meta]
    paths: Sequence[str] = ()


def digest_of_ids(tokens: Tokens) -> str:
    """A sha256 of the ids as int64, little-endian. Reads all of them, some at a time."""
    sha256 = hashlib.sha256()
    for start in range(0, len(tokens), _HASHED):
        sha256.update(tokens[start : start + _HASHED].astype("<i8").data)
    return sha256.hexdigest()


def digests_of_files(digests: Sequence[str]) -> list[str]:
    """A checkpoint's "files", of a sha256 of each file."""
    many = len(digests) > MOST_FILES
    return [hashlib.sha256("".join(digests).encode()).hexdigest()] if many else list(digests)


def describe(tokenizer: Tokenizer) -> str:
    """`bpe of 4,096`."""
    return f"{tokenizer.kind} of {tokenizer.vocab_size:,}"


def changed_data(
    meta: Meta, data: Meta, paths: Sequence[str], tokenizer: Tokenizer, config: TrainingConfig
) -> str | None:
    """What has changed since the checkpoint, as the end of a message; None if the data are the same.

    meta: of the checkpoint; data, paths (see `Identity`), tokenizer, config: of the run now.
    """
    then, now = meta["data"], data
    parts = [name for name in _PARTS if then[name] != now[name]]
    other_tokenizer = meta["tokenizer"] != tokenizer.to_json()
    if not parts and not other_tokenizer:
        return None
    if ("corpus" in then) != ("corpus" in now):
        kinds = ("texts", "a prepared folder or files of ids")
        was, are = kinds if "corpus" in now else kinds[::-1]
        return f"was made on {was}, and these data are {are}; {_ADVICE}"
    if files := _changed_files(then.get("files"), now.get("files"), paths):
        return files
    if not config.data and now.get("files") is not None and then.get("files", []) == now["files"]:
        python = meta["versions"].get("python")
        return (
            f"was trained on the manual of Python {python}, and that of this Python, {platform.python_version()}, "
            "differs: go on with that version"
        )
    if other_tokenizer:
        return f"has another tokenizer: {_other(tokenizers.from_json(meta['tokenizer']), tokenizer)}; {_ADVICE}"
    which = " and ".join(f"the text {_PARTS[part]}" for part in parts)
    return f"was made on other data: {which} {'differs' if len(parts) == 1 else 'differ'}; {_ADVICE}"


def _changed_files(then: list[str] | None, now: list[str] | None, paths: Sequence[str]) -> str | None:
    if then is None or now is None or then == now or len(now) != len(paths):
        return None
    if len(then) != len(now):
        return f"was made on {len(then)} files of data, and these are {len(now)}; {_ADVICE}"
    changed = [str(path) for path, a, b in zip(paths, then, now, strict=True) if a != b]
    which = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"was made on other data: {which} changed since then, or is another file; put the contents back of then"


def _other(then: Tokenizer, now: Tokenizer) -> str:
    if isinstance(then, CharTokenizer) and isinstance(now, CharTokenizer):
        return _characters(then.vocabulary, now.vocabulary)
    if describe(then) != describe(now):
        return f"{describe(then)}, and here it is {describe(now)}"
    return f"{describe(then)}, and here it is another one of that size"


def _characters(then: str, now: str) -> str:
    lost, new = ("".join(sorted(set(a) - set(b))) for a, b in ((then, now), (now, then)))
    parts = [f"the data now have {brief(new)}"] if new else []
    parts += [f"they no longer have {brief(lost)}" if new else f"the data no longer have {brief(lost)}"] if lost else []
    return " and ".join(parts) or "its characters have another order"
