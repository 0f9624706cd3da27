"""A .cu file as text: its kernels and their parameters, and the C++ that g++ is given."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

INCLUDE = Path(__file__).parent / "include"
_BOUNDS = r"__launch_bounds__\s*(\((?:[^()]|\([^()]*\))*\))\s*"
_KERNEL = rf"__global__\s+(?:{_BOUNDS})?void\s+(?:{_BOUNDS})?(\w+)\s*\(([^)]*)\)"


class CompileError(RuntimeError):
    """g++ does not take the source, or is not there; the message names file and line."""


class Parameter(NamedTuple):
    type: str  # as declared, without __restrict__: "const float*"
    name: str


class Declaration(NamedTuple):
    """A kernel as a source declares it."""

    name: str
    launch_bounds: str  # in parentheses: "(256)"; "(0)" if there are none
    parameters: tuple[Parameter, ...]


def kernels(path: str | Path) -> list[Declaration]:
    """The Declarations of the kernels in a .cu file; CompileError if there is none."""
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", read(path), flags=re.S)
    found = [
        Declaration(name, before or after or "(0)", tuple(map(_parameter, filter(str.strip, parameters.split(",")))))
        for before, after, name, parameters in re.findall(_KERNEL, source)
    ]
    if not found:
        raise CompileError(f"{path}: no __global__ void kernel in this file")
    return found


def _parameter(declaration: str) -> Parameter:
    """ "const float* __restrict__ x" -> Parameter("const float*", "x")"""
    words = re.sub(r"\b__restrict(__)?\b", " ", declaration).replace("*", "* ").split()
    return Parameter(" ".join(words[:-1]).replace(" *", "*"), words[-1])


def translate(path: str | Path, include: Sequence[str | Path] = ()) -> str:
    """C++ for g++: the source with its headers, and the table of its kernels. include: folders of quoted headers."""
    return _expand(Path(path), include, set()) + _kernel_table(path)


def _expand(path: Path, include: Sequence[str | Path], seen: set[Path]) -> str:
    """The source with its quoted headers pasted in, rewritten as C++; #line keeps the line numbers."""
    seen.add(path)
    out = [f'#line 1 "{path}"']
    for number, line in enumerate(_rewrite(read(path)).split("\n"), 1):
        found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        header = found and _header(found[1], path, include)
        if not found or header is None:
            out.append(line)
        elif header in seen:
            out.append("")
        else:
            out += [_expand(header, include, seen), f'#line {number + 1} "{path}"']
    return "\n".join(out) + "\n"


def _header(name: str, includer: Path, include: Sequence[str | Path]) -> Path | None:
    """Where a quoted header is: in the folder of its includer or one of `include`; None lets g++ search."""
    places = (Path(folder, name) for folder in (includer.parent, *include))
    return next((place.resolve() for place in places if place.exists()), None)


def _rewrite(text: str) -> str:
    """Dynamic shared memory becomes a pointer; alignas moves in front of __shared__, where C++ allows it."""
    extern = r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*|alignas\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;"
    text = re.sub(extern, r"\1* const \2 = (\1*)sim_dynamic_shared;", text)
    return re.sub(r"__shared__\s+(alignas\([^()]*\))", r"\1 __shared__", text).replace("#pragma once", "")


def _kernel_table(path: str | Path) -> str:
    """C++ text: the table of this file's kernels that the runtime looks into."""
    rows = kernels(path)
    table = "".join(
        f'  {{"{name}", sim_call<{name}>, sim_count({name}), sim_sizes({name}), sim_first{bounds}}},\n'
        for name, bounds, _ in rows
    )
    text = f'#line 1 "kernel table"\n#include "table.h"\nextern "C" const sim_kernel sim_kernels[] = {{\n{table}}};\n'
    return text + f'extern "C" const int sim_n_kernels = {len(rows)};\n'


@functools.cache
def shim() -> str:
    """The text of all headers in include/."""
    return "".join(map(read, sorted(INCLUDE.iterdir())))


def read(path: str | Path) -> str:
    return Path(path).read_text(encoding="utf-8")
