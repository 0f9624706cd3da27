"""The micro-kernel of a matrix product: an MR x NR block of out += a @ b, summed in vector registers.

The terms are those of BLIS (Van Zee and van de Geijn 2015, "BLIS: A framework for rapidly instantiating BLAS
functionality"). The micro-kernel takes MR rows of a and NR columns of b. Each step along the sums adds the outer
product of a column of a and a row of b, so each number that is loaded is used NR or MR times.

Numba cannot say which numbers stay in registers, so the loop is written in LLVM's instructions: its phi nodes are the
sums. A processor with AVX-512 has 32 registers: 28 hold the MR x NR sums, 2 a row of b.
"""

from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.arrays import CACHE_LINE
from kernels.cpu.llvm_ir import broadcast, pointer, prefetch, vector_at
from kernels.cpu.vector_copies import REGISTER_BYTES

_AVX512 = REGISTER_BYTES == 64
MR = 14 if _AVX512 else 6  # rows of out: the sums fill the registers
MR_SMALL = 8 if _AVX512 else 4  # of a smaller micro-kernel, for edges; it divides attention's blocks
MR_TINY = MR_SMALL // 2  # of the smallest one, for edges
NR_VECTORS = 2  # vectors of a row of out: NR is NR_VECTORS * lanes
_PREFETCH_STEPS = 16  # a and b are prefetched so many steps before they are used


class Starts(NamedTuple):
    """The index of the first number of each operand of a micro-kernel. Each row of b begins a cache line."""

    a: int
    b: int
    initial: int
    out: int


class Strides(NamedTuple):
    """The distance of each operand's rows; of a's columns, where these are contiguous. 0: all rows are the same one."""

    a: int
    b: int
    initial: int
    out: int


def _small_micro_kernel(mr, a_by_columns):
    """The micro-kernel for mr rows. a_by_columns: a's columns are contiguous, as in a packed panel; else its rows."""

    @intrinsic
    def micro_kernel(typing, depth, a, b, initial, out, starts, strides):
        """out (mr, NR) = initial (mr, NR) + a (mr, depth) @ b (depth, NR); depth is at least 1.

        They are parts of flat arrays of one dtype, at Starts and Strides.
        """
        signature = types.void(types.int64, a, b, initial, out, starts, strides)
        return signature, lambda *generate: _multiply_add(*generate, mr, a_by_columns)

    return micro_kernel


small_micro_kernel, small_micro_kernel_by_rows = (_small_micro_kernel(MR_SMALL, order) for order in (True, False))
tiny_micro_kernel = _small_micro_kernel(MR_TINY, a_by_columns=True)


@intrinsic
def micro_kernel(
    typing, depth, a, b, initial, out, starts, strides, next_array, next_start, next_stride, next_lines
):  # fmt: skip
    """out (MR, NR) = initial + a @ b, a by columns, with prefetches.

    They are for a and b some steps ahead, for all of out, and at each step for a cache line of a block in next_array,
    which will be packed next: for next_lines lines of its first row, then of the next row.
    """
    size = types.int64
    signature = types.void(size, a, b, initial, out, starts, strides, next_array, size, size, size)
    return signature, lambda *generate: _multiply_add(*generate, MR, a_by_columns=True, prefetches=True)


def _multiply_add(context, builder, signature, args, mr, a_by_columns, prefetches=False):
    """A micro-kernel's instructions: a loop over depth whose phi nodes are the sums."""
    starts, strides = ([builder.extract_value(args[i], operand) for operand in range(4)] for i in (5, 6))
    a, b, initial, out = (pointer(context, builder, signature, args, i, start) for i, start in enumerate(starts, 1))
    a_stride, b_stride, initial_stride, out_stride = strides
    depth, size, number = args[0], ir.IntType(64), out.type.pointee
    number_bytes = signature.args[4].dtype.bitwidth // 8
    lanes = REGISTER_BYTES // number_bytes
    vector, sums_at = ir.VectorType(number, lanes), [(row, v) for row in range(mr) for v in range(NR_VECTORS)]

    def at(base, stride, row, v):
        return vector_at(builder, base, builder.add(builder.mul(stride, size(row)), size(v * lanes)), lanes)

    if prefetches:
        next_block = pointer(context, builder, signature, args, 7, args[8])
        next_stride, next_lines = args[9], args[10]
        for row, v in sums_at:
            offset = builder.add(builder.mul(out_stride, size(row)), size(v * lanes))
            prefetch(builder, builder.gep(out, [offset]), write=True)
    first_sums = [builder.load(at(initial, initial_stride, row, v), align=number_bytes) for row, v in sums_at]
    entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k, sums = builder.phi(size), [builder.phi(vector) for _ in sums_at]
    next_row, next_line = (builder.phi(size), builder.phi(size)) if prefetches else (None, None)
    row_of_b = builder.gep(b, [builder.mul(k, b_stride)])
    column_of_a = builder.gep(a, [builder.mul(k, a_stride) if a_by_columns else k])
    if prefetches:
        prefetch(builder, builder.gep(column_of_a, [builder.mul(a_stride, size(_PREFETCH_STEPS))]))
        for v in range(NR_VECTORS):
            offset = builder.add(builder.mul(b_stride, size(_PREFETCH_STEPS)), size(v * lanes))
            prefetch(builder, builder.gep(row_of_b, [offset]))
        offset = builder.add(next_row, builder.mul(next_line, size(CACHE_LINE // number_bytes)))
        prefetch(builder, builder.gep(next_block, [offset]), level=2)
    row_vectors = [
        builder.load(vector_at(builder, row_of_b, v * lanes, lanes), align=REGISTER_BYTES) for v in range(NR_VECTORS)
    ]
    new_sums = []
    for row in range(mr):
        offset = size(row) if a_by_columns else builder.mul(a_stride, size(row))
        number_of_a = broadcast(builder, builder.load(builder.gep(column_of_a, [offset])), vector)
        for v in range(NR_VECTORS):
            product = builder.fmul(number_of_a, row_vectors[v], flags=("contract",))
            new_sums.append(builder.fadd(sums[row * NR_VECTORS + v], product, flags=("contract",)))
    next_k = builder.add(k, size(1))
    phis, first, later = [k, *sums], [size(0), *first_sums], [next_k, *new_sums]
    if prefetches:
        phis, first = [*phis, next_row, next_line], [*first, size(0), size(0)]
        later += _line_after(builder, next_row, next_line, next_stride, next_lines)
    for phi, first_value, later_value in zip(phis, first, later, strict=True):
        phi.add_incoming(first_value, entry)
        phi.add_incoming(later_value, body)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), body, after)
    builder.position_at_end(after)
    for total, (row, v) in zip(new_sums, sums_at, strict=True):
        builder.store(total, at(out, out_stride, row, v), align=number_bytes)
    return context.get_dummy_value()


def _line_after(builder, row, line, stride, lines):
    """(offset of the row, number of the line in it) of the cache line after that one; a row has `lines` of them."""
    next_line = builder.add(line, line.type(1))
    at_end = builder.icmp_signed("==", next_line, lines)
    return builder.select(at_end, builder.add(row, stride), row), builder.select(at_end, line.type(0), next_line)
