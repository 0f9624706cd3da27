"""How long the processor's pause instruction takes, to a thread that waits in a loop: 10 to 140 cycles, by model."""

import platform
import time

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.compile import jit
from kernels.cpu.llvm_ir import declared

_TRIES, _PAUSES = 3, 3000
_WITHOUT_PAUSE = 1000  # the answer for processors that have no such instruction, whose loop was not measured


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


def pauses_in(seconds: float) -> int:
    """How many pauses last so long on this processor, about."""
    if platform.machine() not in ("x86_64", "AMD64", "i686"):
        return _WITHOUT_PAUSE
    _pause_often(1)  # compiled, or loaded
    elapsed = []
    for _ in range(_TRIES):  # the shortest counts: in the others something may have interrupted this thread
        started = time.perf_counter()
        _pause_often(_PAUSES)
        elapsed.append(time.perf_counter() - started)
    return round(seconds / min(elapsed) * _PAUSES)
