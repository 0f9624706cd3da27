"""Settings of the process: threads, allocator, precision of matrix products, device. A program calls them at start.

Importing this module changes nothing.
"""

import contextlib
import ctypes
import importlib
import os

import numpy as np
from threadpoolctl import threadpool_limits

import kernels
from kernels import matmul_precision
from kernels.system.errors import DeviceError

_MODULES = {"cuda": "kernels.cuda.gpu", "cuda-sim": "kernels.cuda.simulated"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_SECONDS_AWAKE = 50e-6  # a thread waits this long for work before it sleeps; the next kernel mostly comes sooner


def configure(device="cpu", threads=0):
    """Check that `device` can be used, set the numbers of threads, and let the allocator keep its pages.

    threads: for BLAS and the kernels alike; 0 means one for every core this process may use. Returns the number
    used. Raises DeviceError, before anything is changed.
    """
    require(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if threads > cores:
        raise DeviceError(f"threads is {threads}, but this process may use {cores} cores; give at most {cores}")
    threads = threads or cores
    blas_threads = threads
    if device == "cpu" and kernels.describe() != "reference":  # the reference kernels use no compiler
        import numba

        _wait_briefly()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        blas_threads = 1  # else BLAS's threads and Numba's would compete for the cores
    threadpool_limits(blas_threads, user_api="blas")
    _keep_pages()
    return threads


def set_matmul_precision(dtype, device="cpu"):
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


def require(device):
    """DeviceError unless `device` can be used."""
    if device != "cpu":
        module(device).require()


def module(device):
    """The module with the device's arrays and launcher, of the GPU or of the simulator; None for the CPU."""
    return importlib.import_module(_MODULES[device]) if device != "cpu" else None


def asarray(device):
    """The function that puts NumPy arrays on `device`."""
    return np.asarray if device == "cpu" else module(device).asarray


def return_pages():
    """Return unused memory of the allocator to the system; for once, after large temporary arrays."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _wait_briefly():
    """Let idle threads of GCC's OpenMP sleep soon: a thread that spins takes its core from other programs.

    Two trainings of a small model on the same cores are 1.4 to 3 times as fast with it. OpenMP reads GOMP_SPINCOUNT,
    the number of pauses before a thread sleeps, when Numba starts its threads. The user's own setting is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        from kernels.cpu import spin_calibration

        os.environ["GOMP_SPINCOUNT"] = str(spin_calibration.pauses_in(_SECONDS_AWAKE))


def _keep_pages():
    """Tell glibc to hold on to freed memory instead of returning it to the system and faulting it in again.

    A training step frees and allocates the same few hundred arrays; this takes a fifth off its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # not glibc: only slower
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
