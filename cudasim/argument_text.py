"""Kernel arguments written as text: 'f32[1000]' is an array of random numbers, i32=1000 a number.

    TYPE[N]        N random numbers: normal ones, or integers from 0 to 99
    TYPE[N]%M      N random integers below M
    TYPE[N]=V      N times V;  =range: 0, 1, 2, ...;  =out: unwritten memory, where reading is a fault
    TYPE=V         a number
    null           a null pointer
TYPE is f16 bf16 f32 f64 i32 u32 i64 u64 u8, or a name that the source has for one of these: see `aliases`.
"""

import ctypes
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cudasim import memory

#: type -> (NumPy dtype, bfloat16 as its bits; ctypes type, None if not passed by value; C name)
TYPES: dict[str, tuple[type, Any, str]] = {
    "f16": (np.float16, None, "__half"),
    "bf16": (np.uint16, None, "__nv_bfloat16"),
    "f32": (np.float32, ctypes.c_float, "float"),
    "f64": (np.float64, ctypes.c_double, "double"),
    "i32": (np.int32, ctypes.c_int32, "int"),
    "u32": (np.uint32, ctypes.c_uint32, "unsigned"),
    "i64": (np.int64, ctypes.c_int64, "long long"),
    "u64": (np.uint64, ctypes.c_uint64, "unsigned long long"),
    "u8": (np.uint8, None, "unsigned char"),
}


class Argument:
    """One argument: `value` to pass, `array` (bytes of device memory) if it is one, and `c_type` for the signature."""

    def __init__(self, value: Any, c_type: str | None, array: np.ndarray | None = None) -> None:
        self.value, self.c_type, self.array = value, c_type, array


def parse(text: str, aliases: Mapping[str, str], rng: np.random.Generator) -> Argument:
    """The Argument of a description; ValueError that names it. aliases: the source's own types, {"scalar": "f16"}."""
    if text == "null":
        return Argument(ctypes.c_void_p(0), None)
    found = re.fullmatch(r"(\w+)(?:\[(\d+)\])?(?:%(\d+))?(?:=(\S+))?", text)
    kind = found and aliases.get(found[1], found[1])
    if not found or kind not in TYPES or (found[2] is None and (found[3] or not found[4])):
        raise ValueError(
            f"cannot read the argument {text!r}; expected 'f32[1000]', 'i32[10]%5', 'f32[8]=out', i32=1000 or null"
        )
    numpy_type, c_type, name = TYPES[kind]
    if found[2] is not None:
        array = _array(kind, numpy_type, int(found[2]), found[3], found[4], rng, text)
        return Argument(ctypes.c_void_p(array.ctypes.data), name + "*", array)
    if c_type is None:
        raise ValueError(f"{text!r}: a {name} cannot be passed by value")
    try:
        number = float(found[4]) if kind in ("f32", "f64") else int(found[4], 0)
        return Argument(c_type(number), name)
    except ValueError:
        raise ValueError(f"{text!r}: {found[4]!r} is no {name}") from None


def _array(
    kind: str, numpy_type: type, n: int, limit: str | None, fill: str | None, rng: np.random.Generator, text: str
) -> np.ndarray:
    """(n * itemsize,) uint8 of device memory with the numbers in it."""
    device = memory.allocate(n * np.dtype(numpy_type).itemsize)
    if fill == "out":
        return device
    values: np.ndarray
    if fill == "range":
        values = np.arange(n)
    elif fill is not None:
        try:
            values = np.full(n, float(fill))
        except ValueError:
            raise ValueError(f"{text!r}: {fill!r} is no number, nor out, nor range") from None
    elif kind in ("f16", "bf16", "f32", "f64") and limit is None:
        values = rng.standard_normal(n)
    else:
        values = rng.integers(0, int(limit or 100), n)
    device.view(numpy_type)[:] = _bfloat16_bits(values) if kind == "bf16" else values.astype(numpy_type)
    memory.mark_written(device.ctypes.data, device.nbytes)
    return device


def _bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest, ties to even; values are finite."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def check_types(
    arguments: Sequence[Argument], parameters: Sequence[tuple[str, str]], aliases: Mapping[str, str]
) -> None:
    """ValueError if an argument is not of its parameter's declared type. parameters: ((type, name), ...)"""
    if len(arguments) != len(parameters):
        names = ", ".join(name for _, name in parameters) or "none"
        raise ValueError(f"the kernel takes {len(parameters)} arguments ({names}), not {len(arguments)}")
    own = {name: TYPES[kind][2] for name, kind in aliases.items()}
    for argument, (declared, name) in zip(arguments, parameters, strict=True):
        base = declared.removeprefix("const ").removesuffix("*").strip()
        wanted = own.get(base, base) + ("*" if declared.endswith("*") else "")
        if argument.c_type is None and not declared.endswith("*"):
            raise ValueError(f"{name} is declared {declared}, but null is given")
        if argument.c_type not in (None, wanted):
            raise ValueError(f"{name} is declared {declared}, but {argument.c_type} is given")
