"""An NVIDIA GPU as `kernels.cuda.launch` and the trainer see one: CuPy's arrays, and our kernels compiled through CuPy.

`kernels.cuda.simulated` is the simulated device, with the same functions. CuPy is imported on first use, so that
`require` can say what is missing.
"""

import ctypes
import functools
import hashlib
import importlib
import importlib.util
import math
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array, Shape
from kernels.system import cache, streams
from kernels.system.errors import DeviceError
from kernels.system.files import StrPath
from tiny_transformer_np_package_check import interpreter, pip_install

OLDEST = 75  # compute capability, RTX 20 and T4: what the kernels are compiled for and checked on
_IN_MEMORY = "CUPY_CACHE_IN_MEMORY"  # CuPy's name for a cache that ends with the process
_PER_THREAD = "CUPY_CUDA_PER_THREAD_DEFAULT_STREAM"  # CuPy's name for a default stream for each thread
_DEFAULT_SHARED = 48 * 1024  # bytes of shared memory of a block by default
#: a packed argument -> the NumPy scalar of the same width, since CuPy would make an int64 of every Python int
_NUMPY: dict[Any, Any] = {
    ctypes.c_float: np.float32, ctypes.c_double: np.float64, ctypes.c_int32: np.int32, ctypes.c_uint32: np.uint32,
    ctypes.c_int64: np.int64, ctypes.c_uint64: np.uint64,
}  # fmt: skip


def asarray(values: npt.ArrayLike) -> Array:
    """A copy of a NumPy array on the device; a device array as it is."""
    import cupy

    return cupy.asarray(values)


def asnumpy(array: Array) -> np.ndarray:
    """A copy of a device array on the host. Waits until the array is computed."""
    import cupy

    return cupy.asnumpy(array)


def empty(shape: int | Shape, dtype: npt.DTypeLike = np.float64) -> Array:
    """Uninitialised memory."""
    import cupy

    return cupy.empty(shape, dtype)


def pointer(array: Any) -> int:
    """The address of the first element, as kernels see it."""
    return array.data.ptr


def synchronize() -> None:
    """Wait until all launched kernels have ended."""
    import cupy

    cupy.cuda.get_current_stream().synchronize()


@functools.cache
def capability() -> int:
    """The compute capability: 80 for sm_80."""
    import cupy

    return int(cupy.cuda.Device().compute_capability)


def memory() -> int:
    """Bytes of memory of the device."""
    import cupy

    return cupy.cuda.Device().mem_info[1]


# ------------------------------------------------------------------------------------------------ streams


def new_stream() -> Any:
    """A stream that waits for no other, nor another for it, but where `wait_event` says so."""
    import cupy

    if os.environ.get(_PER_THREAD, "0") != "0":
        raise DeviceError(f"{_PER_THREAD} is set: no thread can wait for another's stream; unset it, or num_workers 0")
    return cupy.cuda.Stream(non_blocking=True)


def current_stream() -> Any:
    """The stream on which this thread launches kernels."""
    import cupy

    return cupy.cuda.get_current_stream()


def record(stream: Any) -> Any:
    """An event behind what is on the stream now: `event.done`, `stream.wait_event(event)`."""
    import cupy

    event = cupy.cuda.Event(disable_timing=True)
    event.record(stream)
    return event


def empty_on(stream: Any, shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Uninitialised memory for the work of a stream: it goes back to CuPy's free memory of this stream.

    There it may be handed out again before kernels on other streams that read it have run.
    """
    import cupy

    with stream:
        return cupy.empty(shape, dtype)


def pinned(shape: Shape, dtype: npt.DTypeLike) -> np.ndarray:
    """Host memory that a device can copy from by itself, uninitialised."""
    import cupy

    n, dtype = math.prod(shape), np.dtype(dtype)
    return np.frombuffer(cupy.cuda.alloc_pinned_memory(n * dtype.itemsize), dtype, n).reshape(shape)


def copy_async(array: Array, host: np.ndarray, stream: Any) -> None:
    """Copy pinned memory to a device array of the same shape and dtype; returns before the copy is done."""
    array.data.copy_from_host_async(host.ctypes.data, host.nbytes, stream)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ kernels


def launch(
    path: Path,
    name: str,
    macros: Mapping[str, object],
    grid: Shape,
    block: Shape,
    args: Sequence[Any],
    shared_bytes: int,
) -> None:
    """Start a kernel on the current stream; returns before it ends. Compiles the file the first time.

    args: ctypes values, as `kernels.cuda.launch` packs them. shared_bytes: of dynamic shared memory a block.
    """
    kernel = _kernel(path, name, tuple(macros.items()), shared_bytes)
    kernel(grid, block, tuple(map(_argument, args)), shared_mem=shared_bytes)


@functools.cache
def _kernel(path: Path, name: str, macros: tuple[tuple[str, object], ...], shared_bytes: int) -> Any:
    kernel = _module(path, macros).get_function(name)
    if shared_bytes > _DEFAULT_SHARED:
        kernel.max_dynamic_shared_size_bytes = shared_bytes
    return kernel


@functools.cache
def _module(path: Path, macros: tuple[tuple[str, object], ...]) -> Any:
    """The compiled file. CuPy keeps it on disk too, where there is room: see `_prepare_cache`."""
    import cupy

    includes = (f"-I{folder}" for folder in (path.parent, Path(__file__).parent))
    options = ("-std=c++17", *includes, *(f"-D{macro}={value}" for macro, value in macros))
    module = cupy.RawModule(code=_source(path), options=options, backend="nvrtc")
    # a module on disk is loaded before the timer fires
    notice = threading.Timer(0.2, streams.note, [f"compiling {path.name} for sm_{capability()} (once, then cached)"])
    notice.start()
    try:
        module.compile()
    except OSError as error:  # CuPy has compiled it, but cannot write its cache
        cache.say(f"CuPy's cache: {error}; what is compiled now is compiled again at the next start")
        os.environ[_IN_MEMORY] = "1"
        module.compile()
    finally:
        notice.cancel()
    return module


def _prepare_cache() -> None:
    """Set CuPy's cache folder to ours before it is imported: its own may be missing, read-only or another account's."""
    if "cupy" in sys.modules or "CUPY_CACHE_DIR" in os.environ:
        return
    folder = cache.folder("cupy")
    if folder is None or not cache.write(folder / "room", b""):
        os.environ[_IN_MEMORY] = "1"
    os.environ["CUPY_CACHE_DIR"] = str(folder or cache.temporary())


def _source(path: Path) -> str:
    """The file's text for CuPy, whose cache key is this text alone: it ends with a hash of the included files."""
    digest = hashlib.sha256()
    for file in included(path):
        digest.update(file.read_bytes())
    return f'#line 1 "{path.name}"\n{path.read_text(encoding="utf-8")}\n// includes {digest.hexdigest()}\n'


def included(path: StrPath) -> list[Path]:
    """The quoted headers that a .cu includes, directly or not, sorted: from its folder or from this one."""
    found, waiting = set(), [Path(path)]
    while waiting:
        text = waiting.pop().read_text(encoding="utf-8")
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, flags=re.M):
            beside = Path(path).parent / name
            file = beside if beside.exists() else Path(__file__).parent / name
            if file not in found:
                found.add(file)
                waiting.append(file)
    return sorted(found)


def _argument(value: Any) -> np.generic:
    if type(value) is ctypes.c_void_p:
        return np.uint64(value.value or 0)
    return _NUMPY[type(value)](value.value)


# --------------------------------------------------------------------------------- what may be missing


def require() -> None:
    """DeviceError unless kernels can run here; the message says what is missing and the command that fixes it."""
    if message := problem():
        raise DeviceError(
            f"device 'cuda' cannot be used: {message}. Without a GPU: --device cpu, or --device cuda-sim, which runs "
            "the same kernels on the CPU, slowly"
        )


def problem() -> str | None:
    """Why this machine cannot run the kernels, with the command that fixes it; None if it can."""
    version, message = _driver()
    if message:
        return message
    extra = "cuda13" if version >= 13 else "cuda12"
    install = f"run: {pip_install(extra)}"
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; {install}"
    _prepare_cache()
    import cupy

    built_for = cupy.cuda.runtime.runtimeGetVersion() // 1000
    if built_for > version:
        return (
            f"the installed CuPy is for CUDA {built_for}, the driver for CUDA {version}; "
            f"run: {interpreter()} -m pip uninstall -y cupy-cuda{built_for}x; {pip_install(extra)}"
        )
    for what, module in (("NVRTC, the compiler", "cupy_backends.cuda.libs.nvrtc"), ("cuBLAS", "cupy.cublas")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"CuPy does not find {what} ({str(error).splitlines()[0]}); {install}"
    folder = cupy.cuda.get_cuda_path()
    if folder is None or not Path(folder, "include", "cuda_fp16.h").is_file():
        return f"CUDA's header cuda_fp16.h is not there; {install}"
    if capability() < OLDEST:
        return f"this GPU has compute capability {capability() / 10}, the kernels need {OLDEST / 10} or newer"
    return None


def _driver() -> tuple[int, str | None]:
    """(the CUDA version that the driver can run, what is wrong with it or None)."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0, (
            f"no NVIDIA driver ({library} is not there); on a machine with an NVIDIA GPU install the driver "
            "(Debian and Ubuntu: sudo apt install nvidia-driver-580, else https://www.nvidia.com/drivers)"
        )
    count, version = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return 0, "the NVIDIA driver finds no GPU that this process may use; run: nvidia-smi"
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value < 12000:
        return 0, (
            f"the NVIDIA driver is too old (CUDA {version.value / 1000:.1f}, 12.0 is needed); install a newer one "
            "(Debian and Ubuntu: sudo apt install nvidia-driver-580, else https://www.nvidia.com/drivers)"
        )
    return version.value // 1000, None
