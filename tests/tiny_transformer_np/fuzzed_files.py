"""Files with random wrong contents, a function of the generator. Each function returns a description of its change.

The checkpoints have right checksums, computed after the change, as a forger would.
"""

import copy
import json
import struct

import numpy as np
import tomli_w

from tiny_transformer_np import TransformerConfig
from tiny_transformer_np.model import parameter_shapes
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training import checkpoint_schema as schema

#: values that replace others
VALUES = [
    None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 10**9, 10**30, 10**400, -(2**40), 0.0, -0.5, 0.5, 1.5, 1e9,
    1e308, -1e308,
    "", "x", "char", "float32", "learned", "sinusoidal", "\x1b[31mred\x07", "\ud800", "\u202e", "1e999", "a\nb",
    "x" * 3000, "x" * 300_000, [], [1], [0.9, 0.95], [None], ["x"], [[[[[[[[1]]]]]]]], list(range(3000)), {}, {"a": 1},
    {"": {}}, {"kind": "char", "vocabulary": "ab"}, {"kind": "byte"}, {"kind": "ids", "vocab_size": 7}, {"model": {}},
]  # fmt: skip
NUMBERS = [np.nan, np.inf, -np.inf, -1.0, 1e38, -1e38, 1e30, 1e-45, 0.0]
OF_TOML = [
    b"\xff", b"\0", b"\x1b[2J", b"[" * 3000, b"a." * 3000, b"{a=" * 500, b"9" * 5000, b"0x" + b"f" * 9999, b"nan",
    b"1979-05-27", b"\n[model]\n", b'"""', b"\xef\xbb\xbf", b"=", b"\n",
]  # fmt: skip
OF_METRICS = [
    b"\xef\xbb\xbf", b"\n", b"\0" * 40 + b"\n", b'{"kind": "tr', b"\xff\n", b"[1]\n", b"3\n", b"null\n", b"\r\n",
    b'{"step": 1e999}\n', b'{"step": NaN, "kind": "train"}\n', b"[" * 100_000 + b"\n", b"9" * 5000 + b"\n",
    b'{"kind": "train", "step": 3}\n', b'"\\ud800"\n',
]  # fmt: skip
DTYPES = ["f8", "f2", "i4", "i8", "u1", "?"]


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def places(tree, path=()):
    """The path of every value in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def edit(rng, tree):
    """Change, remove, rename or add one value somewhere in a tree of dicts and lists, in place."""
    every = list(places(tree))
    top = [path for path in every if len(path) == 1]
    *above, key = pick(rng, every if rng.random() < 0.7 else top)
    inside = tree
    for step in above:
        inside = inside[step]
    how = pick(rng, ["set", "set", "set", "nudge", "nudge", "remove", "rename", "add"])
    if how == "nudge" and type(inside[key]) in (int, float):
        inside[key] = inside[key] * pick(rng, [-1, 2, 0.5, 10**9]) + pick(rng, [0, 1, -1])
    elif how == "nudge" and isinstance(inside[key], str) and inside[key]:
        cut = int(rng.integers(len(inside[key])))
        inside[key] = inside[key][:cut] + pick(rng, ["", "\0", "é", "\x9b", "zz"]) + inside[key][cut + 1 :]
    elif how == "remove" or (how == "rename" and isinstance(inside, list)):
        del inside[key]
    elif how == "rename":
        inside[pick(rng, ["other", key.upper(), key + " ", "\x1b", "n_layer"])] = inside.pop(key)
    elif how == "add" and isinstance(inside, dict):
        inside[pick(rng, ["other", "moe", "\x1b[2J", "y" * 5000])] = copy.deepcopy(pick(rng, VALUES))
    else:
        inside[key] = copy.deepcopy(pick(rng, VALUES))
    return f"{how} {'.'.join(map(str, (*above, key)))[:60]}"


def edit_arrays(rng, arrays):
    """Change the name, shape, dtype or numbers of one array, in a dict {name: array} in place; arrays are copied."""
    name = pick(rng, sorted(arrays))
    x = np.atleast_1d(arrays[name]).copy()
    how = pick(rng, ["drop", "rename", "add", "shape", "kind", "number", "number", "bits", "bits", "bits", "large"])
    if how in ("drop", "rename"):
        del arrays[name]
    if how in ("add", "rename"):
        arrays[pick(rng, ["other", "", "\x1b[31m", "model.", name + "x", name.upper()])] = x
    if how == "shape":
        arrays[name] = pick(rng, [x[None], x.reshape(-1), x.T, x[:-1], x[:0], x.reshape(-1)[0], np.stack([x, x])])
    if how == "kind":
        arrays[name] = x.astype(pick(rng, DTYPES))
    if how == "number":
        x.reshape(-1)[rng.integers(x.size)] = pick(rng, NUMBERS)
        arrays[name] = x
    if how == "bits":
        x.reshape(-1).view(np.uint8)[rng.integers(x.nbytes)] ^= 1 << rng.integers(8)
        arrays[name] = x
    if how == "large":  # finite, though products of it overflow
        arrays[name] = x * np.float32(10.0 ** rng.integers(5, 30))
    return f"{how} {name}"


def resized(rng, meta):
    """The arrays of another model that its config and its vocabulary fit; `meta` in place."""
    n_head = pick(rng, [1, 2, 3])
    size = {
        "vocab_size": pick(rng, [1, 2, 300]), "block_size": pick(rng, [1, 5, 9]), "n_layer": pick(rng, [1, 3]),
        "n_head": n_head, "n_embd": 2 * n_head, "bias": pick(rng, [True, False]), "dropout": pick(rng, [0.0, 0.99]),
        "tie_weights": pick(rng, [True, False]), "positions": pick(rng, ["learned", "sinusoidal"]),
    }  # fmt: skip
    if size["positions"] == "sinusoidal":  # then no array has a size that depends on it
        size["block_size"] = pick(rng, [1, 9, 2**20, 2**31 - 1])
    meta["model"] |= size
    meta["tokenizer"]["vocabulary"] = "".join(map(chr, range(size["vocab_size"])))
    shapes = dict(parameter_shapes(TransformerConfig(**meta["model"])))
    meta["adamw_steps"] = dict.fromkeys(shapes, 1)
    return {
        prefix + name: rng.random(shape, np.float32) for prefix in schema.PREFIXES for name, shape in shapes.items()
    }


def forged_checkpoint(rng, path, arrays, meta):
    """Write a checkpoint with wrong contents and the right checksum."""
    arrays, meta, done = dict(arrays), copy.deepcopy(meta), []
    if rng.random() < 0.15:
        arrays = resized(rng, meta)
        done.append(f"resized to {meta['model']}")
    for _ in range(int(rng.integers(0 if done else 1, 3))):
        done.append(edit(rng, meta) if rng.random() < 0.6 else edit_arrays(rng, arrays))
    checkpoint.save(path, arrays, meta)
    if rng.random() < 0.15:
        done.append(edit_header(rng, path))
    return "; ".join(done)


def edit_header(rng, path):
    """Change the header of a safetensors file: the entry of an array, or a piece of its JSON."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    text, body = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.5:
        header = json.loads(text)
        name = pick(rng, sorted(header.keys() - {"__metadata__"}) or [None])
        if name is not None:
            value = pick(
                rng, [[-1], [2**63], [0], [2**40, 2**40], [1] * 70, "x", None, [3, 3], [0, 8], "BF16", "F64", []]
            )
            header[name][pick(rng, ["dtype", "shape", "data_offsets"])] = value
        text, done = json.dumps(header).encode(), f"header of {name}"
    else:
        piece = pick(
            rng, [b"NaN", b"1e999", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000, b'"step":1,', b"\xff", b"\\u0000"]
        )
        at = int(rng.integers(len(text)))
        text, done = text[:at] + piece + text[at + int(rng.integers(9)) :], f"{piece[:9]} in the header"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return done


def forged_toml(rng, path, tables):
    """Write a config.toml with wrong contents."""
    tables, done = copy.deepcopy(tables), []
    for _ in range(int(rng.integers(1, 3))):
        done.append(edit(rng, tables))
    try:
        content = tomli_w.dumps(tables).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, AttributeError):  # TOML has no such value: write its text
        content = json.dumps(tables, default=str).encode()
    if rng.random() < 0.4:
        at = int(rng.integers(len(content)))
        piece = pick(rng, OF_TOML)
        content = content[:at] + piece + content[at + int(rng.integers(20)) :]
        done.append(f"{piece[:9]} at {at}")
    path.write_bytes(content)
    return "; ".join(done)


def forged_metrics(rng, path, rows):
    """Write a metrics.jsonl with some wrong lines."""
    rows, done = copy.deepcopy(rows), []
    for _ in range(int(rng.integers(1, 4))):
        done.append(edit(rng, rows))
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    for _ in range(int(rng.integers(3))):
        at = int(rng.integers(len(lines) + 1))
        piece = pick(rng, OF_METRICS)
        lines.insert(at, piece)
        done.append(f"{piece[:12]} as line {at}")
    path.write_bytes(b"".join(lines))
    return "; ".join(done)


def forged_trace(rng, path, trace):
    """Write a trace with wrong contents."""
    from safetensors.numpy import save_file

    meta = {"names": list(trace.names), "noise": list(trace.noise)}
    arrays = {f"{i:06d}": x for i, x in enumerate(trace.arrays)}
    done = edit(rng, meta) if rng.random() < 0.6 else edit_arrays(rng, arrays)
    arrays = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    save_file(arrays, path, {"minigrad.trace": json.dumps(meta)})
    if rng.random() < 0.3:
        done += "; " + edit_header(rng, path)
    return done


def forged_state(rng, state):
    """A state {name: array} for `load_state_dict` with one wrong entry; and what is wrong."""
    state = dict(state)
    if rng.random() < 0.5:
        return state, edit_arrays(rng, state)
    name = pick(rng, sorted(state))
    kinds = [np.full(state[name].shape, value) for value in (1j, "x", None, np.datetime64("2000-01-01"))]
    wrong = pick(rng, [*VALUES, *kinds, float("nan")])
    state[name] = wrong
    return state, f"{name} is {type(wrong).__name__}"
