"""UTF-8 bytes -> text, in pieces; and what to do about bytes that are no UTF-8."""

import codecs
import io
import re
import shlex

from kernels.system.files import StrPath
from tiny_transformer_np.config import ConfigError

BOM = codecs.BOM_UTF8
STANDARD_INPUT = "standard input"  # its name in messages


class Decoder:
    """UTF-8 -> str, as Python's text mode: every kind of line break becomes "\\n", a character may lie in two pieces.

    name: of the file, for the error; first: the position in the file of the first byte; compression: of the file, one
    of "", "gzip", "zstd". ConfigError for bytes that are no UTF-8, with their position and the command to convert them.
    """

    def __init__(self, name: StrPath, first: int = 0, compression: str = "") -> None:
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
        self._name, self._position, self._compression = name, first, compression
        self._ascii = True  # as far as it was read

    def decode(self, data: bytes, final: bool = False) -> str:
        """The next bytes; final: no more follow."""
        self._position += len(data)
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:  # its object begins with bytes of the piece before
            byte = self._position - len(error.object) + error.start
            raise not_utf8(self._name, f"byte {byte}", error, self._compression, self._ascii) from None
        self._ascii = self._ascii and text.isascii()
        return text


def not_utf8(
    name: StrPath, where: str, error: UnicodeDecodeError, compression: str = "", ascii_before: bool = True
) -> ConfigError:
    """The error for bytes that are no UTF-8: where they are, and the command that makes UTF-8 of the file.

    ascii_before: whether all text before this piece is ASCII. A text with other characters before is damaged UTF-8.
    """
    data, start = error.object, error.start
    rest = data[start:]
    surrogate = re.match(rb"\xed[\xa0-\xbf]", rest)  # half of a UTF-16 pair, encoded alone
    if surrogate or not (ascii_before and data[:start].isascii()):
        why = "half of a surrogate pair, which is no character" if surrogate else "the text before it is UTF-8"
        advice = f"{why}; to leave out what is damaged: {convert(name, '-c -f utf-8', compression)}"
    else:
        charset = "cp1252" if re.search(rb"[\x80-\x9f]", rest[: 1 << 16]) else "latin1"
        advice = f"if it is Latin-1, convert it: {convert(name, f'-f {charset}', compression)}"
    return ConfigError(f"data file {name} is not UTF-8 text ({where}); {advice}")


def convert(name: StrPath, options: str, compression: str = "") -> str:
    """The command that makes a UTF-8 text of a file."""
    if str(name) == STANDARD_INPUT:
        return f"iconv {options} -t utf-8, before it"
    unpack = {"gzip": "gzip -dc", "zstd": "zstd -dc"}.get(compression)
    path, stem = str(name), str(name)
    if unpack:
        stem = stem.rsplit(".", 1)[0]
    base, dot, suffix = stem.rpartition(".")
    new = f"{base}-utf8.{suffix}" if dot and base and "/" not in suffix else f"{stem}-utf8"
    source, target = shlex.quote(path), shlex.quote(new)
    if unpack:
        return f"{unpack} {source} | iconv {options} -t utf-8 > {target}"
    return f"iconv {options} -t utf-8 {source} > {target}"
