"""Compile a .cu, disassemble it, and count what the gates compare."""

import functools
import hashlib
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cudagates import loops
from kernels.cuda import nvrtc
from kernels.cuda.gpu import included
from kernels.system import cache

FORMAT = 1  # of a cache entry: raised when the meaning of a measurement changes


@dataclass(frozen=True)
class Job:
    """One compilation."""

    path: Path
    macros: tuple[tuple[str, int], ...]  # (("SCALAR_F16", 1), ("HEAD_SIZE", 64))
    arch: int


@dataclass(frozen=True)
class Measured:
    """A kernel as compiled by one Job."""

    threads: int  # at most, of a block: __launch_bounds__, 0 if not given
    registers: int  # of a thread
    shared: int  # bytes of static shared memory of a block
    stack: int  # bytes of local memory of a thread
    spills: int  # bytes of registers stored to local memory, plus bytes loaded again
    opcodes: dict[str, int]  # how often each instruction occurs in the code: {"LDG.E.128": 4}
    local_in_loops: int  # accesses to local memory inside of loops

    def count(self, pattern):
        """How many instructions match a regular expression from their beginning: r"LDG.*[.]128"."""
        return sum(n for opcode, n in self.opcodes.items() if re.match(pattern, opcode))


def measure(jobs, at_once=1):
    """{job: {kernel: Measured}, or the CompileError}, from the cache where the sources have not changed.

    at_once: threads; the compiler and the disassembler work outside of Python.
    """
    jobs = list(jobs)
    nvrtc.headers()  # unpacks them once, before several threads look for them
    kept = cache.folder("gates")
    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(jobs, pool.map(functools.partial(_measure, kept), jobs), strict=True))


def _measure(kept, job):
    entry = kept and kept / f"{_key(job)}.measured"
    if entry and (known := cache.read(entry)) is not None:
        return {name: Measured(**values) for name, values in json.loads(known).items()}
    try:
        compiled = nvrtc.compile(job.path, dict(job.macros), job.arch)
    except nvrtc.CompileError as error:
        return error
    if compiled.warnings:
        return nvrtc.CompileError(f"{job.path.name} for sm_{job.arch}:\n" + "\n".join(compiled.warnings))
    code = nvrtc.sass(compiled.cubin)
    found = {name: _count(usage, code[name]) for name, usage in compiled.kernels.items()}
    if entry:
        cache.write(entry, json.dumps({name: asdict(measured) for name, measured in found.items()}).encode())
    return found


def _count(usage, instructions):
    local = [i for i, instruction in enumerate(instructions) if re.match(r"(LDL|STL)\b", instruction.opcode)]
    repeated = loops.in_loops(instructions) if local else ()
    return Measured(
        threads=usage.threads,
        registers=usage.registers,
        shared=usage.shared,
        stack=usage.stack,
        spills=usage.spill_stores + usage.spill_loads,
        opcodes=dict(Counter(instruction.opcode for instruction in instructions)),
        local_in_loops=sum(i in repeated for i in local),
    )


def _key(job):
    """A hash of all that the measurement depends on."""
    parts = [FORMAT, nvrtc.version(), nvrtc.OPTIONS, job.path.name, job.macros, job.arch]
    text = repr(parts).encode() + b"".join(file.read_bytes() for file in (job.path, *included(job.path)))
    return hashlib.sha256(text).hexdigest()
