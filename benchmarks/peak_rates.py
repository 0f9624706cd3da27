"""The peak rates of this machine, operations and bytes a second: python benchmarks/peak_rates.py

Operations a second are those of multiply-adds on registers, bytes a second those of a copy larger than any cache. A
real kernel reaches neither. (bfloat16 is measured with AVX-512's instruction; AMX is faster.)
"""

import sys
import time
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from kernels.cpu.micro_kernel_bfloat16 import BFLOAT
from kernels.system import cli

_FEATURES = llvmlite.binding.get_host_cpu_features()
_LANES = 16 if _FEATURES.get("avx512f") else 8  # float32 in a register
_CHAINS = 12  # independent sums: more than latency times throughput


def _float32(module):
    """(operations of an instruction, the function that adds it to a sum)."""
    vector = ir.VectorType(ir.FloatType(), _LANES)
    fma = _declared(module, f"llvm.fma.v{_LANES}f32", vector, [vector] * 3)
    return 2 * _LANES, lambda builder, total, x: builder.call(fma, [x, x, total])


def _bfloat16(module):
    vector, pairs = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(BFLOAT, 2 * _LANES)
    dot = _declared(module, f"llvm.x86.avx512bf16.dpbf16ps.{32 * _LANES}", vector, [vector, pairs, pairs])
    return 4 * _LANES, lambda builder, total, x: builder.call(
        dot, [total, builder.bitcast(x, pairs), builder.bitcast(x, pairs)]
    )


_INSTRUCTIONS, _ROUNDS = {"float32": _float32, "bfloat16": _bfloat16}, 10_000_000


def _declared(module, name, result, arguments):
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def _loop(instruction):
    """A compiled function of n and x: n rounds of one instruction in every chain -> the sum of all."""

    @intrinsic
    def rounds(typing, n, x):
        def generate(context, builder, signature, args):
            _, add = instruction(builder.module)
            vector = ir.VectorType(ir.FloatType(), _LANES)
            nothing, place = ir.Constant(vector, ir.Undefined), ir.IntType(32)  # not a constant, which would be folded
            x = builder.insert_element(nothing, args[1], place(0))
            x = builder.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(place, _LANES), None))
            entry, body = builder.block, builder.append_basic_block("rounds")
            after = builder.append_basic_block("done")
            builder.branch(body)
            builder.position_at_end(body)
            count = builder.phi(ir.IntType(64))
            sums = [builder.phi(vector) for _ in range(_CHAINS)]
            count.add_incoming(ir.Constant(ir.IntType(64), 0), entry)
            for i, total in enumerate(sums):
                total.add_incoming(ir.Constant(vector, [float(i)] * _LANES), entry)
            for total in sums:
                total.add_incoming(add(builder, total, x), body)
            following = builder.add(count, ir.Constant(ir.IntType(64), 1))
            count.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, args[0]), body, after)
            builder.position_at_end(after)
            result = sums[0]
            for total in sums[1:]:  # else the compiler removes them
                result = builder.fadd(result, total)
            return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

        return types.float32(types.int64, types.float32), generate

    @numba.njit(parallel=True)
    def run(n, x, threads):
        found = np.zeros(threads, np.float32)
        for i in prange(threads):
            found[i] = rounds(n, x)
        return found

    return run


def operations(dtype, threads):
    """Operations of a burst of float32 or bfloat16 products into float32 sums; None without an instruction."""
    if dtype == "bfloat16" and not _FEATURES.get("avx512bf16"):
        return None
    of_one, _ = _INSTRUCTIONS[dtype](ir.Module())
    return threads * _ROUNDS * _CHAINS * of_one


def burst(dtype):
    """A function that keeps all of Numba's threads at it for some tens of milliseconds -> a sum, which is not used."""
    run, threads, x = _loop(_INSTRUCTIONS[dtype]), numba.get_num_threads(), np.float32(1e-3)
    return lambda: run(_ROUNDS, x, threads).sum()


def operations_a_second(dtype="float32"):
    """Operations a second in the fastest of many bursts; None if there is no instruction."""
    if (of_burst := operations(dtype, numba.get_num_threads())) is None:
        return None
    run = burst(dtype)
    run()
    return of_burst / min(_seconds(run) for _ in range(50))


def bytes_a_second():
    """Bytes a second, read plus written, of a copy on all of Numba's threads."""
    source = np.ones(1 << 27, np.float32)  # 512 MB
    target = np.zeros_like(source)

    @numba.njit(parallel=True)
    def copy(source, target):
        for i in prange(source.size):
            target[i] = source[i]

    copy(source, target)
    return 2 * source.nbytes / min(_seconds(lambda: copy(source, target)) for _ in range(5))


def _seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@cli.command_line("peak_rates.py")
def main():
    cli.Parser(prog="peak_rates.py", description=__doc__.split("\n")[0]).parse_args()
    for dtype in ("float32", "bfloat16"):
        found = operations_a_second(dtype)
        print(f"{dtype:<9}", f"{found / 1e9:7.0f} GFLOP/s" if found else "no instruction for it")
    print(f"copy      {bytes_a_second() / 1e9:7.1f} GB/s")


if __name__ == "__main__":
    sys.exit(main())
