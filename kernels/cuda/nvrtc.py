"""Compile a .cu file for any NVIDIA architecture without a GPU, and read the result: registers, spills, machine code.

    compiled = compile("layernorm.cu", {"SCALAR_F16": 1}, arch=80)
    compiled.kernels["layernorm_forward"].registers
    sass(compiled.cubin)["layernorm_forward"]            # its instructions

Needs no CUDA toolkit and no driver, only NVIDIA's wheels: pip install -e '.[gpu-check]'.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernels.system import cache
from tiny_transformer_np_package_check import pip_install

#: CuPy adds the last two to every compilation, so what is measured here is what will run. -ftz: float32 numbers
#: below 1.2e-38 count as 0.
OPTIONS = ("-std=c++17", "--ptxas-options=-v", "-ftz=true", "--device-as-default-execution-space")


class NotInstalled(RuntimeError):
    """One of NVIDIA's wheels is missing; the message says which command installs it."""


class CompileError(RuntimeError):
    """The compiler refused the source; the message is the compiler's."""


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers of a thread, bytes of static shared memory of a block, and bytes of local memory
    of a thread, which is slow, being global memory; its __launch_bounds__, 0 if it has none."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    threads: int


@dataclass(frozen=True)
class Compiled:
    cubin: bytes
    log: str
    kernels: dict[str, Usage]

    @property
    def warnings(self) -> list[str]:
        """The lines of the log that warn of something in the source."""
        return [line for line in self.log.splitlines() if "warning" in line]


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str  # with its modifiers: "LDG.E.128"
    text: str  # as disassembled, predicate and operands included
    labels: tuple[str, ...] = ()  # in front of it


def version() -> tuple[int, int]:
    """NVRTC's version, (13, 5). NotInstalled if there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library(), _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def missing() -> str | None:
    """None if everything here works, else what is missing and how to get it."""
    try:
        version(), headers(), _disassembler()
    except NotInstalled as error:
        return str(error)
    return None


def compile(path: str | Path, macros: Mapping[str, object], arch: int) -> Compiled:
    """The file compiled for compute capability `arch`, such as 80. macros: {"SCALAR_F32": 1}. Raises CompileError."""
    path, library = Path(path), _library()
    includes = (path.parent, Path(__file__).parent, headers(), headers() / "cccl")
    options = [f"--gpu-architecture=sm_{arch}", *OPTIONS, *(f"-I{folder}" for folder in includes)]
    options += [f"-D{name}={value}" for name, value in macros.items()]
    program = ctypes.c_void_p()
    source, name = path.read_bytes(), path.name.encode()
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None))
    try:
        status = library.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        )
        log = _read(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status:
            raise CompileError(f"{path.name} does not compile for sm_{arch} with {_flags(macros)}:\n{log}")
        ptx = _read(library, program, "PTX").rstrip(b"\0").decode()
        return Compiled(_read(library, program, "CUBIN"), log, usage(log, ptx))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def usage(log: str, ptx: str) -> dict[str, Usage]:
    """{kernel: Usage} out of what ptxas -v printed and the code that it compiled."""
    bounds = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", ptx))
    found = {}
    for name, text in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", log, flags=re.S):

        def number(pattern: str, text: str = text) -> int:
            match = re.search(r"(\d+) " + pattern, text)
            return int(match[1]) if match else 0

        found[name] = Usage(
            registers=number("registers"),
            shared=number("bytes smem"),
            stack=number("bytes stack frame"),
            spill_stores=number("bytes spill stores"),
            spill_loads=number("bytes spill loads"),
            threads=int(bounds.get(name, 0)),
        )
    return found


def sass(cubin: bytes) -> dict[str, list[Instruction]]:
    """{kernel: its instructions in order}."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.cubin")
        file.write_bytes(cubin)
        run = subprocess.run([_disassembler(), "-c", "-ndf", str(file)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"nvdisasm failed:\n{run.stderr}")
    return parse_sass(run.stdout)


def parse_sass(text: str) -> dict[str, list[Instruction]]:
    """What `nvdisasm -c` prints, as {kernel: instructions}."""
    kernels: dict[str, list[Instruction]] = {}
    instructions: list[Instruction] = []
    labels: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            instructions = kernels[match[1]] = []
            labels.clear()  # labels at the end of the previous section
        elif match := re.match(r"(\.L_\w+):", line):
            labels.append(match[1])
        elif match := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?)\s*;", line):
            body = re.sub(r"^\s*/\*[0-9a-f]+\*/\s+", "", line).rstrip(" ;")
            instructions.append(Instruction(int(match[1], 16), match[2], body, tuple(labels)))
            labels.clear()
    return kernels


# ------------------------------------------------------------------------------------------ finding the wheels


def _wheel_files(pattern: str) -> list[Path]:
    """Files below the folder `nvidia` in which all of NVIDIA's wheels install, newest major version first."""
    spec = importlib.util.find_spec("nvidia")
    folders = (spec and spec.submodule_search_locations) or ()
    return sorted((file for folder in folders for file in Path(folder).glob(pattern)), reverse=True)


@functools.cache
def _library() -> ctypes.CDLL:
    for file in _wheel_files("cu*/lib/libnvrtc.so.*"):
        return ctypes.CDLL(str(file))
    raise NotInstalled(f"no NVRTC, the compiler for CUDA; run: {pip_install('gpu-check')}")


@functools.cache
def _disassembler() -> str:
    for file in _wheel_files("cu*/bin/nvdisasm"):
        return str(file)
    raise NotInstalled(f"no nvdisasm, NVIDIA's disassembler; run: {pip_install('gpu-check')}")


@functools.cache
def headers() -> Path:
    """The folder with cuda_fp16.h and the rest, which NVRTC since 13.3 carries inside itself; unpacked once."""
    if not hasattr(_library(), "nvrtcInstallBundledHeaders"):
        raise NotInstalled(
            "NVRTC {}.{} comes without its headers; run: {} -U".format(*version(), pip_install("gpu-check"))
        )
    kept = cache.folder("nvrtc")
    folder, digest = (kept or cache.temporary()) / "{}.{}".format(*version()), None
    if kept is not None:
        digest = kept / f"{folder.name}.sha256"
        if cache.read(digest) == _digest(folder):
            return folder
    try:
        _unpack(folder)
    except (OSError, RuntimeError) as error:  # NVRTC's errors do not name their cause
        if kept is None:
            raise
        cache.say(f"{kept}: {error}; the headers of NVRTC are unpacked again at the next start")
        folder, digest = cache.temporary() / folder.name, None
        _unpack(folder)
    if digest is not None:
        cache.write(digest, _digest(folder))
    return folder


def _unpack(folder: Path) -> None:
    """Replace the folder by one with all headers, atomically."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        new, old, message = Path(place, "new"), Path(place, "old"), ctypes.c_char_p()
        _check(_library(), _library().nvrtcInstallBundledHeaders(bytes(new), 0, ctypes.byref(message)))
        if _digest(folder) == _digest(new):  # another process has unpacked them and may be reading them
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, old)
        os.rename(new, folder)


def _digest(folder: Path) -> bytes:
    """A hash of the names and contents of all headers below a folder; of nothing if there is no folder.

    In `.nvrtc_headers_version` NVRTC notes when it was here: that is no header.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("[!.]*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)}\0".encode() + content)
    return digest.digest()


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


def _flags(macros: Mapping[str, object]) -> str:
    return " ".join(f"-D{name}={value}" for name, value in macros.items()) or "no macros"
