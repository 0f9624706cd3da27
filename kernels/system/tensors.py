"""The safetensors format: written array by array, and read from files that come from elsewhere.

Its library either builds the whole file in memory, or writes it under a temporary name and with a mode of its own
choosing. The bytes here are those that it writes; a test compares them. What is read is not believed before it is
checked.
"""

import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from kernels.arrays import Array, Shape
from kernels.system.errors import UserError
from kernels.system.files import StrPath
from kernels.system.printable import brief, one_line

Header: TypeAlias = dict[str, tuple[str, Shape]]  # of each array: the dtype as the format spells it, the shape

MAX_TEXT = 1 << 24  # characters of the JSON text; a vocabulary of 200,000 pieces of words takes 8 million

# largest alignment first: so the format orders arrays, and by name where the dtype is the same
_DTYPES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
    "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays {name: array} and metadata {str: str} to an open binary file. Needs no memory of their size.

    UserError if an array is of a dtype that such a file cannot hold, or that its readers do not know.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise UserError(f"array {name} has dtype {array.dtype}; a file can hold {', '.join(_DTYPES)}")
    rank = {dtype: i for i, dtype in enumerate(_DTYPES)}
    names = sorted(arrays, key=lambda name: (rank[arrays[name].dtype.name], name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": (start, end),
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        array = arrays[name]
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)


def read(
    path: StrPath,
    what: str,
    key: str,
    check: Callable[[dict[str, Any], Header], object] | None = None,
    error: type[UserError] = UserError,
    finite: bool = True,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """(arrays, meta) of a safetensors file whose metadata holds a JSON object under `key`.

    what: the noun for messages, "checkpoint". check(meta, header): raises `error` for what must not be read, before any
    array is; header {name: (dtype, shape)}, the dtype as the format spells it: "F32". finite: see `parse_json`. Raises
    `error`, one line with the path, for a file that is missing, damaged, or another program's.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise error(f"cannot read {what} {path}: it is not a regular file")
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(key)
            if text is None:
                raise error(f"{path} is a safetensors file, but not a {what} of this program")
            meta = parse_json(text, finite)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a dict
            if check:
                header = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
                checked(what, path, check, meta, header, error=error)
            return {name: file.get_tensor(name) for name in parts}, meta
    except error:
        raise
    except OSError as reason:
        raise error(f"cannot read {what} {path}: {reason.strerror or one_line(reason)}") from None
    except MemoryError:
        raise error(f"cannot read {what} {path}: its arrays do not fit into memory") from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as reason:
        raise error(f"{what} {path} is damaged ({one_line(reason)}); use another one") from None


def checked(what: str, path: StrPath, check: Callable[..., Any], *args: Any, error: type[UserError] = UserError) -> Any:
    """check(*args), its `error` with the file's path in front."""
    try:
        return check(*args)
    except error as reason:
        raise error(f"{what} {path} cannot be used: {reason}") from None


def parse_json(text: str, finite: bool = True) -> dict[str, Any]:
    """The object that a JSON text holds. ValueError for anything that this program does not write.

    That is: keys that stand twice, nesting or a length without use and, where `finite`, numbers that are not finite.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a JSON text of {len(text):,} characters; expected at most {MAX_TEXT:,}")
    number, constant = (_finite, _no_number) if finite else (None, None)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=number, parse_constant=constant)
    except RecursionError:
        raise ValueError("a JSON text nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON text with {brief(value)}; expected an object")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {brief(text)} is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {brief(key)} stands twice")
            seen.add(key)
    return table
