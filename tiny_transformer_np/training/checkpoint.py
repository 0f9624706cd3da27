"""Checkpoints: one safetensors file each, all arrays in it and everything else as one JSON text.

Never a pickle: loading someone's checkpoint must not run their code. Nothing in it depends on the clock, so
equal runs write equal files.
"""

import hashlib
import json

import numpy as np
from safetensors import SafetensorError, safe_open

from kernels.system import tensors
from kernels.system.files import replacing
from tiny_transformer_np.config import ConfigError, TransformerConfig, typed
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.tokenizer import CharTokenizer

FORMAT = 1
KEY = "minigrad"  # of the JSON text in the file's metadata
MODEL = "model."  # prefix of the weights; the optimizer's arrays are adamw.m.* and adamw.v.*


def save(path, arrays, meta):
    """Write arrays {name: array} and meta, a JSON-able dict, under a temporary name and rename it to `path`."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # others would be scrambled
    meta = {"format": FORMAT, **meta}
    text = json.dumps({**meta, "sha256": _digest(arrays, meta)}, sort_keys=True)
    with replacing(path) as partial, open(partial, "wb") as file:
        tensors.write(file, arrays, {KEY: text})


def load(path):
    """(arrays, meta) of a checkpoint. ConfigError if it is missing, damaged, or not one of ours."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except OSError as error:
        raise ConfigError(f"cannot read checkpoint {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"checkpoint {path} is damaged ({_one_line(error)}); use another one") from None
    if KEY not in metadata:
        raise ConfigError(f"{path} is a safetensors file, but not a checkpoint of this program")
    try:
        meta = json.loads(metadata[KEY])
        intact = meta.pop("sha256") == _digest(arrays, meta)
    except (ValueError, KeyError, AttributeError):
        intact = False
    if not intact:
        raise ConfigError(f"checkpoint {path} is damaged (its checksum does not fit its contents); use another one")
    if meta["format"] != FORMAT:
        raise ConfigError(f"checkpoint {path} has format {meta['format']}; this version reads format {FORMAT}")
    return arrays, meta


def _digest(arrays, meta):
    """A sha256 of everything: meta, and each array's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _one_line(error):
    return " ".join(str(error).split())


def load_model(path):
    """(model, tokenizer, meta) of a checkpoint, ready to generate from."""
    arrays, meta = load(path)
    types = TransformerConfig.__annotations__
    config = TransformerConfig(**{key: typed(value, types[key], key) for key, value in meta["model"].items()})
    model = TransformerLM(config)
    load_weights(model, arrays, path)
    return model.eval(), CharTokenizer(meta["tokenizer"]["vocabulary"]), meta


def load_weights(model, arrays, path):
    """Copy a checkpoint's weights into a model. ConfigError, naming the differences, if they do not fit."""
    try:
        model.load_state_dict({name.removeprefix(MODEL): a for name, a in arrays.items() if name.startswith(MODEL)})
    except ValueError as error:
        raise ConfigError(f"checkpoint {path}: {error}") from None
