"""How the CPU kernels are compiled: Numba's settings, its cache, and the elementary functions inside loops.

The cache's folder is named after a hash of all compiled sources. Numba itself looks only at the file that holds a
function, and would not notice a change in a function that it calls.
"""

import functools
import hashlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.errors import NumbaError
from numba.extending import intrinsic, overload

from kernels.cpu import forked, threads
from kernels.cpu.kernel_cache import KernelCache
from kernels.cpu.llvm_ir import declared
from kernels.system import cache

# Reordering sums lets loops over a row become vector code. Not "fast": its nnan and ninf parts let the
# compiler delete the handling of NaN and infinity.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def _cache_folder() -> Path | None:
    """The folder for this version of the kernels; None if no folder can be trusted, and nothing is cached."""
    package = Path(__file__).resolve().parents[1]
    compiled = [*sorted(package.glob("cpu/*.py")), *sorted(package.glob("*/cpu*.py")), package / "arrays.py"]
    sources = b"".join(path.read_bytes() for path in compiled)
    versions = [numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag]
    return cache.folder("cpu-" + hashlib.sha256(sources + repr(versions).encode()).hexdigest()[:16])


def _whole_registers() -> None:
    """Use whole vector registers: for some processors LLVM uses half of each, since older ones lower their clock."""
    features = llvmlite.binding.get_host_cpu_features()
    if numba.config.CPU_FEATURES is None and features.get("avx512f"):
        numba.config.CPU_FEATURES = features.flatten() + ",-prefer-256-bit"


_whole_registers()  # before the first function is compiled
_CACHE = _cache_folder()


def jit(function: Callable | None = None, *, parallel: bool = False, mixed: bool = False, reorder: bool = True) -> Any:
    """`numba.njit` as every kernel uses it. `parallel` turns `prange` loops into threads.

    A call from Python with arrays that the kernel is not for raises TypeError in one line. mixed: whether it is for
    arrays of float32 beside such of float64. reorder: whether sums and products may be formed in another order than is
    written; False: a product is not moved to where it overflows or vanishes.
    """
    if function is None:
        return lambda f: jit(f, parallel=parallel, mixed=mixed, reorder=reorder)
    kernel = numba.njit(
        function,
        parallel=parallel,
        fastmath=FASTMATH if reorder else FASTMATH - {"reassoc", "arcp"},
        error_model="numpy",
        no_cfunc_wrapper=True,  # for callers in C
    )
    kernel._compile_for_args = functools.partial(_compiled, function, mixed, kernel._compile_for_args)
    forked.watch(kernel)
    kernel._cache = KernelCache(function, _CACHE)  # where `kernel.enable_caching` would put Numba's own cache
    return kernel


def _compiled(function: Callable, mixed: bool, compile: Callable, *args: Any) -> Any:
    """compile(*args), the kernel for the types of these arguments, which a call met for the first time.

    TypeError in one line if there is none. Its `__context__` is the compiler's error, for whoever writes a kernel.
    """
    dtypes = [array.dtype for array in _arrays(args)]
    if not _may_fit(dtypes, mixed):
        raise TypeError(_refusal(function, dtypes))
    try:
        return compile(*args)
    except NumbaError:
        raise TypeError(_refusal(function, dtypes)) from None


def _arrays(values: Iterable[Any]) -> Iterator[np.ndarray]:
    """All arrays among the arguments of a kernel, those in tuples too."""
    for value in values:
        if isinstance(value, tuple):
            yield from _arrays(value)
        elif isinstance(value, np.ndarray):
            yield value


def _may_fit(dtypes: Sequence[np.dtype], mixed: bool) -> bool:
    """Whether there may be a kernel: 16-bit numbers come as bits, uint16, and integers only beside numbers or bits."""
    floats = {dtype for dtype in dtypes if dtype in (np.float32, np.float64)}
    known = all(dtype in floats or dtype.kind in "iu" for dtype in dtypes) and (mixed or len(floats) < 2)
    return known and (not dtypes or bool(floats) or any(dtype.kind == "u" for dtype in dtypes))


def _refusal(function: Callable, dtypes: Sequence[np.dtype]) -> str:
    given = ", ".join(dict.fromkeys(map(str, dtypes))) or "no arrays"
    name = f"{function.__module__.removeprefix('kernels.')}.{function.__name__}"
    return (
        f"the compiled kernel {name} is for arrays of float32 or of float64, with integers as indices; it was given "
        f"{given}: convert them, x.astype(np.float32)"
    )


_running: Any = threading.RLock()  # Numba's workqueue layer ends a process in which two threads run kernels at once
if hasattr(os, "register_at_fork"):  # the thread that held it is not in the fork
    os.register_at_fork(after_in_child=_running._at_fork_reinit)

_WORTH_SHARING = 15_000  # nanoseconds; giving work to a thread that is still awake takes 3,000


def launch(kernel: Callable[..., Any], nanoseconds: float, *args: Any) -> Any:
    """kernel(*args) on all threads, or on one thread if the estimated nanoseconds are too few to share.

    The kernels' sums do not depend on the number of threads, so this does not change a bit of the result.
    One kernel runs at a time; another thread's kernel waits.
    """
    with _running:
        if threads.thread.settled != threads.choice:
            threads.settle()
        if nanoseconds >= _WORTH_SHARING:
            return kernel(*args)
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            return kernel(*args)
        finally:
            numba.set_num_threads(before)


# -------------------------------------------------------------------------------------------- exp


def exp(x: float) -> float:
    """e**x; in compiled code a polynomial for float32 (which, unlike libm's, the compiler can vectorise).

    Its relative error is 1e-7 at most, from -87.3 to 88.376; above it is infinite, below -87.7 it is 0.
    """
    return np.exp(x)


def scaled_exp(x: float) -> float:
    """EXP_SCALE e**x, for x up to 72: in float32 a normal number also where e**x is subnormal, with all digits."""
    return EXP_SCALE * np.exp(x)


EXP_SCALE = 2.0**24


@overload(exp)
def _exp(x):
    return _exp_float32(0) if x == numba.float32 else lambda x: math.exp(x)


@overload(scaled_exp)
def _scaled_exp(x):
    return _exp_float32(24) if x == numba.float32 else lambda x: EXP_SCALE * math.exp(x)


def _exp_float32(power):
    """2**power e**x."""
    # x = k ln 2 + r with |r| <= ln 2 / 2. At 1.5 * 2**23 a float32 number has no bits for a fraction: adding it to
    # x / ln 2 leaves k in the last bits. 127 more is the bias of exponents, so that shifted into their place these bits
    # are 2**k: 0 for k = -127, infinite for 128. A NaN passes both limits and stays in r.
    lowest, highest = (np.float32(limit - power * math.log(2.0)) for limit in (-88.02, 88.7228))
    shift, shift_bits = np.float32(12582912 + 127 + power), np.int32(0x4B400000 + 127 + power)

    def exp_float32(x):
        t = lowest if x < lowest else x
        t = highest if t > highest else t
        bits = np.float32(t * np.float32(1.44269504088896341) + shift).view(np.int32)
        k = np.float32(np.int32(bits - shift_bits))
        r = t - k * np.float32(0.693359375)
        r = r + k * np.float32(2.12194440e-4)
        y = np.float32(1.3344575219e-3)  # (e**r - 1 - r) / r**2, by Remez' exchange; its part in the error is 2.5e-8
        y = y * r + np.float32(8.3592588287e-3)
        y = y * r + np.float32(4.1673714890e-2)
        y = y * r + np.float32(1.6666600169e-1)
        y = y * r + np.float32(4.9999983695e-1)
        y = y * r + np.float32(1.0)
        y = y * r + np.float32(1.0)
        return y * np.int32(bits << np.int32(23)).view(np.float32)

    return exp_float32


def exp2_of_product(x: float, y: float) -> float:
    """2**(x y) for x y from -127 to 127.9, or a NaN; the product is not rounded where the processor has fma."""
    return np.exp2(x * y)


@overload(exp2_of_product)
def _exp2_of_product(x, y):
    if x != numba.float32:
        return lambda x, y: np.exp2(x * y)

    def exp2_float32(x, y):
        # As in _exp_float32, x y = k + r with |r| <= 1/2. Callers have reorder=False: otherwise the compiler takes
        # adding and subtracting the same number for nothing.
        shifted = multiply_add(x, y, np.float32(12582912 + 127))
        bits = np.float32(shifted).view(np.int32)
        r = multiply_add(x, y, np.float32(12582912 + 127) - shifted)
        z = np.float32(1.5595080284e-4)  # (2**r - 1) / r, by Remez' exchange; its part in the error is 3e-9
        z = z * r + np.float32(1.3406797095e-3)
        z = z * r + np.float32(9.6176911396e-3)
        z = z * r + np.float32(5.5503101295e-2)
        z = z * r + np.float32(2.4022652796e-1)
        z = z * r + np.float32(6.9314721519e-1)
        z = z * r + np.float32(1.0)
        return z * np.int32(bits << np.int32(23)).view(np.float32)

    return exp2_float32


@intrinsic
def multiply_add(typing, x, y, z):
    """x * y + z, rounded once where the processor has an instruction for it."""

    def generate(context, builder, signature, args):
        number = args[0].type
        bits = {"float": 32, "double": 64}[str(number)]
        return builder.call(declared(builder, f"llvm.fmuladd.f{bits}", number, number, number, number), args)

    return x(x, x, x), generate
