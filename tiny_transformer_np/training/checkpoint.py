"""Checkpoints: one safetensors file each, all arrays in it and everything else as one JSON text.

Never a pickle: loading someone's checkpoint must not run their code. Nothing in it depends on the clock, so
equal runs write equal files. checkpoint_schema.py says what a checkpoint must contain.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from kernels.arrays import Array
from kernels.system import tensors
from kernels.system.files import StrPath, replacing
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.tokenizers import Tokenizer
from tiny_transformer_np.training import checkpoint_schema as schema
from tiny_transformer_np.training.checkpoint_schema import Meta
from tiny_transformer_np.training.finite_state import logits_are_finite, not_finite

Arrays: TypeAlias = dict[str, Array]

FORMAT = schema.FORMAT
KEY = "minigrad"  # of the JSON text in the file's metadata
MODEL = schema.PREFIXES[0]
_SURROGATE = re.compile("[\ud800-\udfff]")  # the one kind of character that UTF-8 does not have


def save(path: StrPath, arrays: Arrays, meta: Meta) -> None:
    """Write arrays {name: array} and meta, a JSON-able dict, under a temporary name and rename it to `path`."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # safetensors ignores strides
    meta = {"format": FORMAT, **meta}
    text = json.dumps({**meta, "sha256": _digest(arrays, meta)}, sort_keys=True, ensure_ascii=False)
    text = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    with replacing(path) as partial, open(partial, "wb") as file:
        tensors.write(file, arrays, {KEY: text})


def load(path: StrPath) -> tuple[Arrays, Meta]:
    """(arrays, meta) of a checkpoint. ConfigError if it is missing, damaged, not one of ours, or not valid."""
    arrays, meta = read(path, schema.check)
    require_finite(path, arrays)
    return arrays, meta


def read(path: StrPath, check: Callable[[Meta, tensors.Header], object] | None = None) -> tuple[Arrays, Meta]:
    """(arrays, meta) of a file that `save` wrote, its checksum verified; check: see `kernels.system.tensors.read`."""

    def without_digest(meta: Meta, header: tensors.Header) -> None:
        digests.append(meta.pop("sha256", None))
        if check:
            check(meta, header)

    digests: list[str | None] = []
    arrays, meta = tensors.read(path, "checkpoint", KEY, without_digest, ConfigError)
    if digests != [_digest(arrays, meta)]:
        raise ConfigError(f"checkpoint {path} is damaged (its checksum does not fit its contents); use another one")
    return arrays, meta


def require(path: StrPath, arrays: Arrays, meta: Meta) -> None:
    """ConfigError unless arrays and meta, as `load` gives them, are a valid checkpoint. Changes nothing."""
    spelled = {dtype: short for short, dtype in schema.DTYPES.items()}
    header = {name: (spelled.get(str(x.dtype), str(x.dtype)), x.shape) for name, x in arrays.items()}
    tensors.checked("checkpoint", path, schema.check, meta, header, error=ConfigError)
    require_finite(path, arrays)


def require_finite(path: StrPath, arrays: Arrays) -> None:
    """ConfigError if an array of a checkpoint holds NaN or infinity."""
    if problem := not_finite(arrays):
        raise ConfigError(f"checkpoint {path} cannot be used: {problem}; use an earlier one")


def require_finite_logits(path: StrPath, model: TransformerLM) -> None:
    """ConfigError if a model with a checkpoint's weights gives logits that are not finite."""
    if not logits_are_finite(model):
        raise ConfigError(f"checkpoint {path} cannot be used: its logits are not finite; use an earlier one")


def _digest(arrays: Arrays, meta: Meta) -> str:
    """A sha256 of everything: meta, and each array's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def load_model(path: StrPath, check_logits: bool = True) -> tuple[TransformerLM, Tokenizer, Meta]:
    """(model, tokenizer, meta) of a checkpoint, ready to generate from. ConfigError if its logits are not finite.

    check_logits: False if the caller calls `require_finite_logits` itself, once the kernels are compiled.
    """
    arrays, meta = load(path)
    config, _ = schema.configs(meta)
    model = TransformerLM(config).astype(arrays[MODEL + "token_embedding.weight"].dtype).eval()
    load_weights(model, arrays, path)
    if check_logits:
        require_finite_logits(path, model)
    return model, schema.tokenizer_of(meta, config), meta


def load_weights(model: TransformerLM, arrays: Arrays, path: StrPath) -> None:
    """Copy a checkpoint's weights into a model. ConfigError, naming the differences, if they do not fit."""
    try:
        model.load_state_dict({name.removeprefix(MODEL): a for name, a in arrays.items() if name.startswith(MODEL)})
    except ValueError as error:
        raise ConfigError(f"checkpoint {path}: {error}") from None
