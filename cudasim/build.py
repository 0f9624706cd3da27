"""Compiles a .cu file with g++ into a library with the runtime in it. Each mode has its own flags and runtime."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cudasim.cache import Keep
from cudasim.source import INCLUDE, CompileError, read, shim, translate

RUNTIME = Path(__file__).parent / "runtime"
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


def library(
    path: str | Path, macros: Mapping[str, object], mode: str, include: Sequence[str | Path], keep: Keep
) -> Path:
    """Path of the shared library of this .cu file, compiled if it is not kept.

    include: folders of quoted headers. keep(name, make): the path of a kept file, which make(path) writes if need be.
    """
    path = Path(path).resolve()
    source = translate(path, include)
    kernel_flags, runtime = MODES[mode]
    flags = [*FLAGS, *kernel_flags, *(f"-D{name}={value}" for name, value in sorted(macros.items()))]
    key = _hash(source, flags, _compiler(), *(read(RUNTIME / name) for name in runtime), _headers())

    def make(built: str) -> None:
        _note(f"cuda-sim: compiling {path.name} ({', '.join(sorted(macros)) or 'no macros'}; {mode})")
        objects = [runtime_object(name, keep) for name in runtime]
        assembly = _run(["-S", *flags, "-I", str(INCLUDE), "-include", "sim.h", "-x", "c++", "-", "-o", "-"], source)
        if mode == "check":
            assembly = _spread_shared(assembly)
        _run(["-shared", "-x", "assembler", "-", "-x", "none", *objects, "-o", built], assembly)

    return keep(f"{path.stem}-{mode}-{key}.so", make)


def runtime_object(name: str, keep: Keep) -> str:
    """Path of one compiled source of the runtime, the same for all kernels."""
    flags = [*FLAGS, "-O2"]
    key = _hash(read(RUNTIME / name), flags, _compiler(), _headers())
    command = ["-c", *flags, str(RUNTIME / name), "-o"]
    return str(keep(f"{Path(name).stem}-{key}.o", lambda built: _run([*command, built])))


def _spread_shared(assembly: str) -> str:
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


def _run(arguments: Sequence[str], source: str | None = None) -> str:
    """What g++ prints; CompileError with its first errors, OSError where the disk is full."""
    result = subprocess.run(["g++", *arguments], input=source, capture_output=True, text=True, errors="replace")
    if result.returncode and (full := os.strerror(errno.ENOSPC)) in result.stderr:
        raise OSError(errno.ENOSPC, full, tempfile.gettempdir())
    if result.returncode:
        raise CompileError(_first_errors(result.stderr))
    return result.stdout


def _first_errors(log: str) -> str:
    lines = [line for line in log.splitlines() if re.search(r"\berror:|undefined reference", line)]
    return "\n".join(lines[:5]) or log


@functools.cache
def _compiler() -> str:
    if shutil.which("g++") is None:
        raise CompileError("the simulated CUDA device needs g++; install it (Debian, Ubuntu: apt install g++)")
    return subprocess.run(["g++", "-v"], capture_output=True, text=True, check=True).stderr


@functools.cache
def _headers() -> str:
    return shim() + read(RUNTIME / "runtime.h") + read(RUNTIME / "check.h")


def _note(line: str) -> None:
    """A line on stderr; a stderr that is closed or full is no reason to stop."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            print(line, file=sys.stderr, flush=True)


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]
