"""Kernels of one .cu file, compiled for the simulated device and ready to launch.

    kernels = load("sums.cu", {"SIZE": 128})
    kernels.launch("sums", (8, 1, 1), (128, 1, 1), [c_void_p(out), c_void_p(x), c_int32(n)])

The arrays are memory of `cudasim.memory.allocate` or arrays of `cudasim.array`.
"""

import ctypes
import functools
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cudasim import build, cache, lines, memory, traffic
from cudasim.cache import Keep

SCHEDULES = ("forward", "reversed", "random")
_lock = threading.Lock()  # one launch at a time: all libraries run their threads on the same stacks
_stacks = None  # address of these, from the first library
_ARRAY = re.compile(r"<array ([0-9a-f]+)>")


class SimError(RuntimeError):
    """A kernel did something that a GPU does not define. The message names source line, kernel, block and thread."""


def load(
    path: str | Path,
    macros: Mapping[str, object],
    mode: str = "fast",
    include: Sequence[str | Path] = (),
    keep: Keep = cache.keep,
) -> "Module":
    """The Module of a .cu file compiled with these macros, {"SIZE": 128}; compiled when its text is new.

    mode: "fast"; "check" to find races, missing barriers and wrong accesses; "debug" without optimisation.
    include: folders in which quoted headers are looked for, after that of the source.
    keep(name, make): path of a file that is kept between runs; where there is none, make(path) writes one.
    Raises cudasim.source.CompileError, which names file and line.
    """
    if mode not in build.MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(build.MODES)}")
    return _load(Path(path).resolve(), tuple(sorted(macros.items())), mode, tuple(include), keep)


@functools.cache
def _load(
    path: Path, macros: tuple[tuple[str, object], ...], mode: str, include: tuple[str | Path, ...], keep: Keep
) -> "Module":
    return Module(path, dict(macros), mode, build.library(path, dict(macros), mode, include, keep))


class Module:
    """The kernels of one compiled source, in a library that holds the runtime as well."""

    def __init__(self, path: Path, macros: dict[str, object], mode: str, library_path: Path) -> None:
        self.path, self.macros, self.mode, self.library_path = path, macros, mode, library_path
        try:
            self._library = ctypes.CDLL(str(self.library_path))
        except OSError:  # on a disk of which nothing may be run
            self.library_path = Path(shutil.copy(self.library_path, cache.temporary()))
            self._library = ctypes.CDLL(str(self.library_path))
        self._lines = lines.Lines(self.library_path, path)
        with _lock:
            self._share_stacks()

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        shared_bytes: int = 0,
        schedule: str = "forward",
        seed: int = 0,
    ) -> None:
        """Run a kernel to its end. grid, block: tuples of three; args: ctypes values as the parameters are declared.

        schedule: the order in which threads and blocks run; any must give the same bits. Raises SimError for what is
        found wrong, the first fault first, and ValueError for a schedule that does not exist.
        """
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule is {schedule!r}; expected one of {', '.join(SCHEDULES)}")
        pointers = (ctypes.c_void_p * max(len(args), 1))(*(ctypes.addressof(arg) for arg in args))
        sizes = (ctypes.c_int * max(len(args), 1))(*(ctypes.sizeof(arg) for arg in args))
        message = ctypes.create_string_buffer(16384)
        with _lock:
            keep_alive = self._pass_memory() if self.mode == "check" else None
            faults = self._library.sim_launch(
                name.encode(), (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers, sizes, len(args),
                ctypes.c_size_t(shared_bytes), SCHEDULES.index(schedule), ctypes.c_ulonglong(seed), message,
                len(message),
            )  # fmt: skip
        del keep_alive
        if faults:
            raise SimError(self._explain(message.value.decode(errors="replace"), faults, args))
        if self.mode == "fast":
            _check_guards(name, args)

    def _share_stacks(self) -> None:
        global _stacks
        self._library.sim_stacks.restype = ctypes.c_void_p
        _stacks = self._library.sim_stacks(ctypes.c_void_p(_stacks))
        if not _stacks:
            raise MemoryError("no address space for the stacks of 1024 simulated threads")

    def counters(self) -> list[traffic.Row]:
        """Traffic in check mode since the last reset: a list of `traffic.Row`, one a line, space and direction."""
        return traffic.rows(self._library, self._lines) if self.mode == "check" else []

    def reset_counters(self) -> None:
        if self.mode == "check":
            self._library.sim_reset_counters()

    def _pass_memory(self) -> tuple[Any, ...]:
        """Tell the checker what is allocated; returns what must live as long as the launch."""
        live = memory.live()
        flags = [allocation.flags() for allocation in live]
        table = (_Array * max(len(live), 1))(
            *(
                _Array(a.address, a.nbytes, None if f is None else f.ctypes.data)
                for a, f in zip(live, flags, strict=True)
            )
        )
        shared = lines.shared_arrays(self.library_path)
        shared_table = (_SharedArray * max(len(shared), 1))(
            *(_SharedArray(at, n, name.encode()) for at, n, name in shared)
        )
        self._library.sim_memory(table, len(live), shared_table, len(shared))
        return flags, table, shared_table

    def _explain(self, message: str, faults: int, args: Sequence[Any]) -> str:
        text = self._lines.text(message)
        text = _ARRAY.sub(lambda found: self._array_name(int(found[1], 16), args), text)
        return text + (f"\n  and {faults - 6} faults more" if faults > 6 else "")

    def _array_name(self, address: int, args: Sequence[Any]) -> str:
        for number, arg in enumerate(args, 1):
            if isinstance(arg, ctypes.c_void_p) and arg.value and memory.find(arg.value) is memory.find(address):
                return f"argument {number}"
        return "an array that is no argument"


class _Array(ctypes.Structure):
    _fields_ = [("address", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("initialised", ctypes.c_void_p)]


class _SharedArray(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("name", ctypes.c_char_p)]


def _check_guards(name: str, args: Sequence[Any]) -> None:
    """Fast mode sees a write past the end of an array only here, and must take every array as written."""
    addresses = (arg.value for arg in args if isinstance(arg, ctypes.c_void_p))
    found = (memory.find(address) for address in addresses if address)
    for array in {id(array): array for array in found if array is not None}.values():
        memory.mark_written(array.address, array.nbytes)
        if not array.intact():
            array.repair()
            raise SimError(f"{name}: a thread has written past an end of the array of {array.nbytes} bytes "
                           f"at {array.address:#x}; check mode names the line")  # fmt: skip
