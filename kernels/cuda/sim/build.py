"""A .cu file, compiled by g++ as C++ through the headers in include/, into a library with the runtime in it."""

import errno
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from kernels.system import cache, streams
from kernels.system.errors import DeviceError

HERE = Path(__file__).parent
INCLUDE, RUNTIME = HERE / "include", HERE / "runtime"
KERNELS = HERE.parent
#: -fno-strict-aliasing and no contraction: a CUDA compiler lets a float4* alias a float*; and the same bits everywhere
FLAGS = [
    "-std=c++17", "-g", "-gdwarf-4", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off",
    "-fno-strict-aliasing", "-fno-math-errno", "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-w",
]  # fmt: skip
_RUNTIME = ["scheduler.cpp", "fibers.cpp", "launch.cpp"]
# Each load and store of the kernel becomes a call of the checker. Structs must stay whole and loops as written, or an
# access of 16 bytes would be seen as four; functions are inlined, so that an address leads back to the kernel.
_CHECKED = [
    "-O1", "-fsanitize=thread,bounds", "-fno-tree-sra", "-fno-tree-vectorize",
    "-fno-tree-loop-distribute-patterns", "-finline-functions", "-finline-small-functions",
    "--param=max-inline-insns-single=4000", "--param=max-inline-insns-auto=4000",
    "--param=early-inlining-insns=1000", "--param=inline-unit-growth=2000",
    "--param=large-function-growth=5000", "--param=large-stack-frame-growth=5000",
    "--param=tsan-instrument-func-entry-exit=0",
]  # fmt: skip
#: mode -> (flags for the kernel, the runtime's sources)
MODES = {
    "fast": (["-O2"], [*_RUNTIME, "fast.cpp"]),
    "debug": (["-O0"], [*_RUNTIME, "fast.cpp"]),
    "check": (_CHECKED, [*_RUNTIME, "check.cpp", "traffic.cpp"]),
}
_BOUNDS = r"__launch_bounds__\s*(\((?:[^()]|\([^()]*\))*\))\s*"
_KERNEL = rf"__global__\s+(?:{_BOUNDS})?void\s+(?:{_BOUNDS})?(\w+)\s*\("


class CompileError(DeviceError):
    """g++ does not take the source, or is not there; the message names file and line."""


def library(path, macros, mode):
    """Path of the shared library of this .cu file, compiled if it is not in the cache."""
    path = Path(path).resolve()
    source = expand(path) + kernel_table(path)
    kernel_flags, runtime = MODES[mode]
    flags = [*FLAGS, *kernel_flags, *(f"-D{name}={value}" for name, value in sorted(macros.items()))]
    key = _hash(source, flags, _compiler(), *(_text(RUNTIME / name) for name in runtime), _headers())

    def compile_to(built):
        streams.note(f"cuda-sim: compiling {path.name} ({', '.join(sorted(macros)) or 'no macros'}; {mode})")
        objects = [runtime_object(name) for name in runtime]
        assembly = _run(["-S", *flags, "-I", str(INCLUDE), "-include", "sim.h", "-x", "c++", "-", "-o", "-"], source)
        if mode == "check":
            assembly = _spread_shared(assembly)
        _run(["-shared", "-x", "assembler", "-", "-x", "none", *objects, "-o", built], assembly)

    return _kept(f"{path.stem}-{mode}-{key}.so", compile_to)


def _spread_shared(assembly):
    """256 bytes after each static shared array, so that an index past its end does not meet the next array."""
    section, lines = "", []
    for line in assembly.splitlines():
        words = line.split()
        if words[:1] == [".section"]:
            section = words[1]
        elif words[:1] in ([".text"], [".data"], [".bss"]):
            section = words[0]
        if section.startswith(".tbss") and words[:1] == [".zero"]:
            line = f"\t.zero\t{int(words[1]) + 256}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def runtime_object(name):
    """One source of the runtime, compiled once for all kernels."""
    flags = [*FLAGS, "-O2"]
    key = _hash(_text(RUNTIME / name), flags, _compiler(), _headers())
    command = ["-c", *flags, str(RUNTIME / name), "-o"]
    return str(_kept(f"{Path(name).stem}-{key}.o", lambda built: _run([*command, built])))


def expand(path, seen=None):
    """The source with its own headers pasted in and what g++ cannot know rewritten; #line keeps the line numbers.

    "ptx.cuh" comes from include/, any other header from beside the source or from kernels/cuda.
    """
    seen = set() if seen is None else seen
    seen.add(path)
    out = [f'#line 1 "{path}"']
    for number, line in enumerate(_rewrite(_text(path)).split("\n"), 1):
        found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        header = found and _header(found[1], path)
        if not found or header is None:
            out.append(line)
        elif header in seen:
            out.append("")
        else:
            out += [expand(header, seen), f'#line {number + 1} "{path}"']
    return "\n".join(out) + "\n"


def _header(name, includer):
    """Where a quoted header is; None lets g++ search."""
    places = [INCLUDE / name, includer.parent / name, KERNELS / name]
    return next((place.resolve() for place in places if place.exists()), None)


def _rewrite(text):
    """Dynamic shared memory is a pointer here; alignas goes where C++ wants it."""
    extern = r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*|alignas\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;"
    text = re.sub(extern, r"\1* const \2 = (\1*)sim_dynamic_shared;", text)
    return re.sub(r"__shared__\s+(alignas\([^()]*\))", r"\1 __shared__", text).replace("#pragma once", "")


def kernel_table(path):
    """C++ text: the table of this file's kernels that the runtime looks into."""
    rows = _kernels(path)
    table = "".join(f'  {{"{name}", sim_call<{name}>, sim_count({name}), sim_sizes({name}), sim_first{bounds}}},\n'
                    for name, bounds in rows)  # fmt: skip
    text = f'#line 1 "kernel table"\n#include "table.h"\nextern "C" const sim_kernel sim_kernels[] = {{\n{table}}};\n'
    return text + f'extern "C" const int sim_n_kernels = {len(rows)};\n'


def kernels_of(path):
    """Names of the kernels in a .cu file; CompileError if there is none."""
    return [name for name, _ in _kernels(path)]


def _kernels(path):
    """[(name, launch bounds in parentheses)]"""
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", _text(path), flags=re.S)
    rows = [(name, before or after or "(0)") for before, after, name in re.findall(_KERNEL, source)]
    if not rows:
        raise CompileError(f"{path}: no __global__ void kernel in this file")
    return rows


def _kept(name, compile_to):
    """Path of the file of that name: in the cache, compiled there if need be, or else in a folder of this process.

    compile_to: writes the file to the path it is given.
    """
    folder = cache.folder("cuda-sim")
    if folder is not None and cache.read(folder / name) is not None:
        return folder / name
    built = cache.temporary() / name
    if not built.exists():
        handle, unfinished = tempfile.mkstemp(dir=built.parent)
        os.close(handle)
        compile_to(unfinished)
        os.replace(unfinished, built)  # of two threads that compile the same, each loads a whole file
    if folder is not None and cache.write(folder / name, built.read_bytes()):
        return folder / name
    return built


def _run(arguments, source=None):
    """What g++ prints; CompileError with its first errors, OSError where the disk is full."""
    result = subprocess.run(["g++", *arguments], input=source, capture_output=True, text=True, errors="replace")
    if result.returncode and (full := os.strerror(errno.ENOSPC)) in result.stderr:
        raise OSError(errno.ENOSPC, full, tempfile.gettempdir())
    if result.returncode:
        raise CompileError(_first_errors(result.stderr))
    return result.stdout


def _first_errors(log):
    lines = [line for line in log.splitlines() if re.search(r"\berror:|undefined reference", line)]
    return "\n".join(lines[:5]) or log


@functools.cache
def _compiler():
    if shutil.which("g++") is None:
        raise CompileError("the simulated CUDA device needs g++; install it (Debian, Ubuntu: apt install g++)")
    return subprocess.run(["g++", "-v"], capture_output=True, text=True, check=True).stderr


@functools.cache
def _headers():
    return (
        "".join(_text(p) for p in sorted(INCLUDE.iterdir())) + _text(RUNTIME / "runtime.h") + _text(RUNTIME / "check.h")
    )


def _text(path):
    return Path(path).read_text(encoding="utf-8")


def _hash(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]
