"""Settings of the process: threads, allocator, precision of matrix products, device. A program calls them at start.

Importing this module changes nothing. Without a call the first kernel settles how many threads there are and how they
wait, see `kernels.cpu.threads`.
"""

import contextlib
import ctypes
import importlib
import numbers
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import kernels
from kernels import matmul_precision
from kernels.arrays import Array
from kernels.cpu import threads as cpu_threads
from kernels.system.errors import DeviceError
from kernels.system.printable import brief

_MODULES = {"cuda": "kernels.cuda.gpu", "cuda-sim": "kernels.cuda.simulated"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def configure(device: str = "cpu", threads: int = 0) -> int:
    """Check that `device` can be used, set the numbers of threads, and let the allocator keep its pages.

    threads: for BLAS and the kernels alike; 0 means one for every core this process may use, or as many as the
    environment's NUMBA_NUM_THREADS or OMP_NUM_THREADS say. Returns the number used. Raises DeviceError, before anything
    is changed.
    """
    require(device)
    cores = cpu_threads.cores()
    if threads > cores:
        raise DeviceError(f"threads is {threads}, but this process may use {cores} cores; give at most {cores}")
    threads = threads or cpu_threads.default()
    blas_threads = threads
    if device == "cpu" and kernels.describe() != "reference":  # the reference kernels use no compiler
        cpu_threads.select(min(threads, cpu_threads.available()))
        cpu_threads.get_num_threads()  # settled now
        blas_threads = 1  # else BLAS's threads and Numba's would compete for the cores
    threadpool_limits(blas_threads, user_api="blas")
    _keep_pages()
    return threads


def set_num_threads(number: int) -> None:
    """Let the kernels, and NumPy's BLAS, which computes `a @ b`, use so many threads, whichever thread calls them.

    Without a call the kernels use one for every core this process may use, or as many as the environment's
    NUMBA_NUM_THREADS or OMP_NUM_THREADS say. The number changes no bit of a kernel's result. Raises TypeError or
    ValueError for anything but an integer from 1 to the number of cores, or to NUMBA_NUM_THREADS where it is set.
    """
    if not isinstance(number, numbers.Integral) or isinstance(number, bool):
        raise TypeError(f"the number of threads is {brief(number)}; expected an integer")
    most = cpu_threads.available()
    if not 1 <= number <= most:
        limit = "NUMBA_NUM_THREADS" if "NUMBA_NUM_THREADS" in os.environ else "the cores that this process may use"
        raise ValueError(f"the number of threads is {brief(number)}; expected 1 to {most}, which is {limit}")
    cpu_threads.select(int(number))
    threadpool_limits(int(number), user_api="blas")


def get_num_threads() -> int:
    """How many threads the kernels use that this thread calls: see `set_num_threads`."""
    return cpu_threads.selected()


def set_matmul_precision(dtype: str, device: str = "cpu") -> str:
    """Round the operands of float32 matrix products to dtype, "float32" or "bfloat16"; all else stays float32.

    Returns the dtype in use: float32 where the processor has no instruction for the other, which the reference
    kernels do not need. Raises DeviceError on a device.
    """
    if device != "cpu" and dtype != "float32":
        raise DeviceError(f"dtype {dtype} is for the CPU so far; on {device} give float32")
    if dtype == "bfloat16" and kernels.describe() != "reference":
        from kernels.cpu.micro_kernel_bfloat16 import HAS_BFLOAT16

        dtype = dtype if HAS_BFLOAT16 else "float32"
    matmul_precision.select(dtype)
    return dtype


def require(device: str) -> None:
    """DeviceError unless `device` can be used."""
    if device != "cpu":
        module(device).require()


def module(device: str) -> Any:
    """The module with the device's arrays and launcher, of the GPU or of the simulator; None for the CPU."""
    return importlib.import_module(_MODULES[device]) if device != "cpu" else None


def asarray(device: str) -> Callable[..., Array]:
    """The function that puts NumPy arrays on `device`."""
    return np.asarray if device == "cpu" else module(device).asarray


def return_pages() -> None:
    """Return unused memory of the allocator to the system; for once, after large temporary arrays."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _keep_pages() -> None:
    """Tell glibc to hold on to freed memory instead of returning it to the system and faulting it in again.

    A training step frees and allocates the same few hundred arrays; this takes a fifth off its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # not glibc: only slower
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
