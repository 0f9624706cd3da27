"""How long the processor pauses where a thread that waits asks it to: 10 to 140 cycles, which depends on its model."""

import platform
import time

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.compile import jit
from kernels.cpu.llvm_ir import declared

_TRIES, _PAUSES = 3, 3000
_ELSEWHERE = 1000  # of what takes its place on a processor without that instruction; how long it takes is not known


@intrinsic
def _pause(typing):
    def generate(context, builder, signature, args):
        builder.call(declared(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])
        return context.get_dummy_value()

    return types.void(), generate


@jit
def _pause_often(n):
    for _ in range(n):
        _pause()


def pauses_in(seconds):
    """About how many of them last so long here."""
    if platform.machine() not in ("x86_64", "AMD64", "i686"):
        return _ELSEWHERE
    _pause_often(1)  # compiled, or loaded
    took = []
    for _ in range(_TRIES):  # the least counts: others may have held this thread up
        started = time.perf_counter()
        _pause_often(_PAUSES)
        took.append(time.perf_counter() - started)
    return round(seconds / min(took) * _PAUSES)
