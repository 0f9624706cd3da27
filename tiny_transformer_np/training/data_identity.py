"""Whether a run's data are the data that its checkpoint was trained on; if not, what has changed.

A checkpoint's "data": sha256 of the tokens to train on and to validate, "train" and "val"; since 0.2.0 also of each
file, "files", in the order of --data and --val-data, and whether "byte_order_marks" were kept as characters.
"""

import platform
from collections.abc import Sequence

from kernels.system.printable import brief
from tiny_transformer_np.config import TrainingConfig
from tiny_transformer_np.tokenizers import CharTokenizer, Tokenizer, from_json
from tiny_transformer_np.training.checkpoint_schema import Meta

_ADVICE = "give the same --data and --val-data"
_PARTS = {"train": "to train on", "val": "to validate"}


def changed_data(meta: Meta, data: Meta, tokenizer: Tokenizer, config: TrainingConfig) -> str | None:
    """What has changed since the checkpoint, as the end of a message; None if the data are the same.

    meta: of the checkpoint; data, tokenizer, config (TrainingConfig): of the run now.
    """
    then, now = meta["data"], data
    parts = [name for name in _PARTS if then[name] != now[name]]
    other_tokenizer = meta["tokenizer"] != tokenizer.to_json()
    if not parts and not other_tokenizer:
        return None
    if files := _changed_files(then.get("files"), now.get("files"), [*config.data, *config.val_data]):
        return files
    if not config.data and now.get("files") is not None and then.get("files", []) == now["files"]:
        python = meta["versions"].get("python")
        return (
            f"was trained on the manual of Python {python}, and that of this Python, {platform.python_version()}, "
            "differs: go on with that version"
        )
    if other_tokenizer:
        return f"has another tokenizer: {_difference(from_json(meta['tokenizer']), tokenizer)}; {_ADVICE}"
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


def _difference(then: Tokenizer, now: Tokenizer) -> str:
    if isinstance(then, CharTokenizer) and isinstance(now, CharTokenizer):
        return _characters(then.vocabulary, now.vocabulary)
    sizes = "another vocabulary" if then.vocab_size == now.vocab_size else f"{then.vocab_size} tokens"
    return f"its kind is {then.kind}, of {sizes}; of the data it is {now.kind}, of {now.vocab_size} tokens"


def _characters(then: str, now: str) -> str:
    lost, new = ("".join(sorted(set(a) - set(b))) for a, b in ((then, now), (now, then)))
    parts = [f"the data now have {brief(new)}"] if new else []
    parts += [f"they no longer have {brief(lost)}" if new else f"the data no longer have {brief(lost)}"] if lost else []
    return " and ".join(parts) or "its characters have another order"
