"""The simulated device as `kernels.cuda.launch` and the trainer see one: cudasim, with our headers, cache and errors.

`kernels.cuda.gpu` is the real device, with the same functions.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cudasim import module, streams
from cudasim.array import SimArray, asarray, asnumpy, empty, pointer
from cudasim.source import CompileError
from cudasim.streams import copy_async
from kernels.arrays import Shape
from kernels.system import cache
from kernels.system.errors import DeviceError

__all__ = [
    "asarray", "asnumpy", "capability", "copy_async", "current_stream", "empty", "empty_on", "launch", "load",
    "new_stream", "pinned", "pointer", "record", "require", "synchronize",
]  # fmt: skip

HEADERS = Path(__file__).parent
mode = "fast"  # or "check": look for races, unwritten memory, accesses outside of arrays
schedule = "forward"  # the order in which blocks and threads run; or "reversed", "random"


def launch(
    path: Path,
    name: str,
    macros: Mapping[str, object],
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    shared_bytes: int,
) -> None:
    """Run a kernel to its end. Compiles the file the first time."""
    load(path, macros, mode).launch(name, grid, block, args, shared_bytes, schedule)


def load(path: Path, macros: Mapping[str, object], mode: str = "fast") -> module.Module:
    """The cudasim.module.Module of a .cu file, compiled with these macros. DeviceError if g++ refuses it."""
    try:
        return module.load(path, macros, mode, include=(HEADERS,), keep=_keep)
    except CompileError as error:
        raise DeviceError(error) from error


def _keep(name: str, make: Callable[[str], object]) -> Path:
    """Path of the compiled file of that name: in our cache, or else in a folder of this process."""
    folder = cache.folder("cuda-sim")
    if folder is not None and cache.read(folder / name) is not None:
        return folder / name
    built = cache.temporary() / name
    if not built.exists():
        handle, unfinished = tempfile.mkstemp(dir=built.parent)
        os.close(handle)
        make(unfinished)
        os.replace(unfinished, built)  # of two threads that compile the same, each loads a whole file
    if folder is not None and cache.write(folder / name, built.read_bytes()):
        return folder / name
    return built


def capability() -> int:
    """The compute capability that it simulates: 80 for sm_80."""
    return 80


def synchronize() -> None:
    """A launch returns when its kernel has ended: there is nothing to wait for."""


def new_stream() -> streams.Stream:
    """A stream whose work runs when the host or another stream waits for it."""
    return streams.Stream()


def current_stream() -> streams.Stream:
    """The stream on which kernels run."""
    return streams.default


def record(stream: streams.Stream) -> streams.Event:
    """An event behind what is on the stream now: `event.done`, `stream.wait_event(event)`."""
    return stream.record()


def empty_on(stream: streams.Stream, shape: Shape, dtype: npt.DTypeLike) -> SimArray:
    """Memory for the work of a stream."""
    return empty(shape, dtype)


def pinned(shape: Shape, dtype: npt.DTypeLike) -> np.ndarray:
    """Host memory that `copy_async` copies from."""
    return np.empty(shape, dtype)


def require() -> None:
    """DeviceError unless kernels can be compiled here."""
    if shutil.which("g++") is None:
        raise DeviceError("device 'cuda-sim' compiles the kernels with g++, which is not there: install g++ (Debian: "
                          "apt install g++), or use --device cpu")  # fmt: skip
