"""From an address in a compiled kernel to the line of the source, and the shared arrays that a library declares."""

import functools
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Place: TypeAlias = tuple[str, int]  # file and line
Token: TypeAlias = tuple[str, ...]  # the parts of `<pc ...>`: address, and file and line where the runtime knows them

_SHIM = str(Path(__file__).parent / "include")
_TOKEN = re.compile(r"<pc ([0-9a-f]+)(?: ([^>]+):(\d+))?>")


class Lines:
    """Finds source lines of addresses in one library; `source` is the .cu file it was compiled from."""

    def __init__(self, library: str | Path, source: str | Path) -> None:
        self._library, self._source = str(library), str(source)
        self._found: dict[Token, tuple[Place, Place | None]] = {}

    def text(self, message: str) -> str:
        """The message with "file:line" for every `<pc ...>` that the runtime wrote."""
        self.look_up(_TOKEN.findall(message))
        return _TOKEN.sub(lambda token: _describe(self._found[token.groups("")]), message)

    def place(self, token: str) -> Place:
        """(file, line) of one `<pc ...>`."""
        (parts,) = _TOKEN.findall(token)
        self.look_up([parts])
        return self._found[parts][0]

    def look_up(self, tokens: Iterable[Token]) -> None:
        """Fills _found: token -> ((file, line), the line of a header in which it happens or None)."""
        new = [token for token in dict.fromkeys(tokens) if token not in self._found]
        addresses = [f"0x{pc}" for pc, _, _ in new]
        for token, frames in zip(new, self._frames(addresses), strict=True):
            if token[1]:
                frames = [(token[1], int(token[2])), *frames]
            frames = [frame for frame in frames if not frame[0].startswith(_SHIM)] or frames
            own = next((frame for frame in frames if frame[0] == self._source), frames[0])
            self._found[token] = own, frames[0] if frames[0][0] != own[0] else None

    def _frames(self, addresses: list[str]) -> list[list[Place]]:
        """For each address the inlined lines it belongs to, innermost first."""
        if not addresses:
            return []
        command = ["addr2line", "-a", "-i", "-e", self._library, *addresses]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: list[list[Place]] = []
        for line in output.splitlines():
            if line.startswith("0x"):
                found.append([])
            else:
                file, _, number = line.split(" (")[0].rpartition(":")
                found[-1].append((os.path.normpath(file), int(number) if number.isdigit() else 0))
        return found


def _describe(known: tuple[Place, Place | None]) -> str:
    (file, line), header = known
    text = f"{relative_path(file)}:{line}"
    return text + f" (in {relative_path(header[0])}:{header[1]})" if header else text


def relative_path(path: str) -> str:
    """The path relative to the current directory, if it is below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


@functools.cache
def shared_arrays(library: str | Path) -> list[tuple[int, int, str]]:
    """[(offset, bytes, name)] of the static shared arrays, in their order in shared memory."""
    output = subprocess.run(["readelf", "-sWC", library], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\s*\d+: ([0-9a-f]+)\s+(\d+) TLS\s+\w+\s+\w+\s+\w+\s+(.+)$", output, flags=re.M)
    return sorted({(int(offset, 16), int(size), _shared_name(name)) for offset, size, name in rows})


def _shared_name(symbol: str) -> str:
    """The array's name for messages; empty for symbols of g++ and of the runtime."""
    if symbol == "sim_tls_begin" or symbol.startswith("guard variable"):
        return ""
    return "shared `" + re.split(r"::|\s", symbol)[-1] + "`"
