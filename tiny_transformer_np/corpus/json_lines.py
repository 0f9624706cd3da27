"""Documents from files with a JSON object in each line."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kernels.system.printable import brief
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus.decoding import BOM, not_utf8
from tiny_transformer_np.corpus.streams import Stream

if TYPE_CHECKING:
    from tiny_transformer_np.corpus.work_units import Part

LONGEST_LINE = 1 << 26  # bytes of one line, which is in memory several times while it is read
TOO_LONG = (
    f"a line has more than {LONGEST_LINE >> 20} MiB; expected an object in each line; give larger texts as files of "
    "their own"
)
_SLICE = 1 << 20  # bytes read at a time
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", float: "a number"}
_SURROGATE = re.compile("[\ud800-\udfff]")
# numbers as floats: an int of more digits than Python converts is no reason to refuse a line
_DECODER = json.JSONDecoder(parse_int=float)


def read_json_lines(part: "Part", field: str) -> Iterator[str | None]:
    """The value of `field` in each line that is not blank; None for null.

    ConfigError naming file and line for one that is no JSON object, lacks the field, or has no string there.
    """
    with Stream(part.source, part.start, part.end) as stream:
        for number, line in enumerate(_lines(stream, part)):
            if line.strip():
                try:
                    yield _value(line, field)
                except UnicodeDecodeError as error:
                    where = f"line {_first_line(part) + number:,}, byte {error.start} of it"
                    raise not_utf8(part.source.name, where, error, part.source.compression) from None
                except ValueError as error:
                    where = f"data file {part.source.name}, line {_first_line(part) + number:,}"
                    raise ConfigError(f"{where}: {error}") from None


def _lines(stream: Stream, part: "Part") -> Iterator[bytes]:
    """The lines of a file without their ends, one in memory at a time."""
    begun: list[bytes] = []
    number = length = 0
    first = part.start == 0
    while data := stream.read(_SLICE):
        if first:
            data, first = data.removeprefix(BOM), False
        *whole, rest = data.split(b"\n")
        for line in whole:
            joined = b"".join([*begun, line])
            begun, length, number = [], 0, number + 1
            yield joined
        begun.append(rest)
        length += len(rest)
        if length > LONGEST_LINE:
            line_number = _first_line(part) + number
            raise ConfigError(f"data file {part.source.name}, line {line_number:,}: here {TOO_LONG}")
    yield b"".join(begun)


def _value(line: bytes, field: str) -> str | None:
    """The value of the field in a line; ValueError says why there is none."""
    text = line.decode("utf-8").strip()
    try:
        found, end = _DECODER.raw_decode(text)
        if end < len(text):
            raise ValueError(f"there is more behind the JSON object: {brief(text[end:])}; expected one in each line")
    except json.JSONDecodeError as error:
        raise ValueError(_no_json(text, error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply; expected an object with the text") from None
    if not isinstance(found, dict):
        hint = "; a list of all documents becomes lines with jq -c '.[]' IN > OUT" if isinstance(found, list) else ""
        raise ValueError(f"it is {_name(found)}; expected an object with the text in {field!r}{hint}")
    if field not in found:
        raise ValueError(_missing(field, found))
    value = found[field]
    if value is not None and not isinstance(value, str):
        raise ValueError(f"the field {field!r} is {_name(value)}; expected a string; other fields: --field NAME")
    if value and (half := _SURROGATE.search(value)):
        raise ValueError(
            f"the text has {ascii(half[0])[1:-1]}, half of a surrogate pair, which is no character; write \\ufffd"
        )
    return value


def _no_json(text: str, error: json.JSONDecodeError) -> str:
    hint = "expected an object in each line"
    if text in ("{", "[") or text.startswith(("[{", "[ {")):
        hint += "; a file of one list becomes that with jq -c '.[]' IN > OUT, another with jq -c . IN > OUT"
    return f"it is not JSON ({error.msg}, character {error.pos + 1:,}); {hint}"


def _missing(field: str, found: dict[str, Any]) -> str:
    strings = [name for name, value in found.items() if isinstance(value, str)]
    there = ", ".join(brief(name) for name in list(found)[:10]) or "none"
    advice = f"; choose one: --field {max(strings, key=lambda name: len(found[name]))}" if strings else ""
    return f"there is no field {field!r}, only {there}{advice}"


def _name(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), "something else")


def _first_line(part: "Part") -> int:
    """The number of the part's first line in its file, counted from 1; it is for errors, and reads the file again."""
    number = 1
    with Stream(part.source, 0, part.start) as stream:
        while data := stream.read(_SLICE):
            number += data.count(b"\n")
    return number
