"""Products of bfloat16 numbers with float32 sums, by the processor's own instructions for them.

These instructions take the numbers two by two along the sum: a pair of a times a pair of b is a0 b0 + a1 b1. A block is
what one of them can hold of a factor, 16 rows of 16 pairs (1 KB): of `a` a row is one of the product's rows, of `b`
it is a step along the sum and holds a pair for each of 16 columns. Two of them, one below the other, are a panel.
"""

import ctypes
import platform

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.compile import jit
from kernels.cpu.llvm_ir import (
    below,
    chosen,
    declared,
    load_some,
    masked_load,
    pointers,
    prefetch,
    repeated,
    vector_at,
)
from kernels.cpu.vector_ops import transpose

SIDE = 16  # rows of a block, and pairs of a row
BLOCK = SIDE * SIDE  # pairs
PANEL = 2 * SIDE  # rows of two blocks, and the numbers that a block's row holds of the sum
_FEATURES = llvmlite.binding.get_host_cpu_features()
_BYTE, _SIZE = ir.IntType(8), ir.IntType(64)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self):
        return "bfloat"


BFLOAT = _BFloat()


def _amx():
    """Whether this processor multiplies whole blocks, and the system lets us: on Linux a program has to ask."""
    if platform.system() != "Linux" or not (_FEATURES.get("amx-bf16") and _FEATURES.get("avx512bf16")):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # of Linux on x86-64
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


HAS_AMX = _amx()
HAS_BFLOAT16 = HAS_AMX or bool(_FEATURES.get("avx512bf16"))
_TILES = np.zeros(64, np.uint8)  # AMX's settings: palette 1, eight tiles of 16 rows of 64 bytes
_TILES[0], _TILES[16:32:2], _TILES[48:56] = 1, 64, 16


def tile_settings():
    """What compiled products of bfloat16 numbers take as `tiles`. RuntimeError on a processor that has none."""
    if not HAS_BFLOAT16:  # the compiler would end the process
        raise RuntimeError("this processor has no instruction for bfloat16 products; call minigrad.runtime."
                           "set_matmul_precision, which then chooses float32")  # fmt: skip
    return _TILES


# ------------------------------------------------------------------------------------- products of panels


@intrinsic
def product(typing, depth, a, a_at, b, b_at, start, start_at, start_step, out, out_at, out_step):
    """out (PANEL, PANEL) = start + a @ b: two panels of `depth` blocks along the sum, at least 1.

    All are parts of flat arrays of four bytes an element, each from an index on. A panel is 64 bytes aligned. Rows of
    start and out lie a step apart; with start_step 0 all rows start alike.
    """

    def generate(context, builder, signature, args):
        a, b, begin, end = pointers(context, builder, signature, args, (1, 3, 5, 8))
        for row, half in np.ndindex(PANEL, 2):  # out is on its way here while the sums are formed
            offset = builder.add(builder.mul(args[10], _SIZE(row)), _SIZE(half * SIDE))
            prefetch(builder, builder.gep(end, [offset]), write=True)
        make = _by_tiles if HAS_AMX else _by_registers
        make(builder, args[0], a, b, (begin, args[7]), (end, args[10]))
        return context.get_dummy_value()

    size = types.int64
    return types.void(size, a, size, b, size, start, size, size, out, size, size), generate


def _by_tiles(builder, depth, a, b, start, out):
    """By AMX: its tiles 0..3 hold the sums, 4 and 5 the two blocks of a, 6 and 7 those of b."""

    def call(name, *args):
        builder.call(declared(builder, f"llvm.x86.{name}", ir.VoidType(), *(x.type for x in args)), args)

    def each_sum(name, base, step):
        for m, n in np.ndindex(2, 2):
            offset = builder.add(builder.mul(step, _SIZE(SIDE * m)), _SIZE(SIDE * n))
            call(name, _BYTE(2 * m + n), _bytes(builder, base, offset), builder.mul(step, _SIZE(4)))

    each_sum("tileloadd64", *start)
    entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_SIZE)
    for side, base in enumerate((a, b)):
        for half in range(2):
            offset = builder.add(builder.mul(k, _SIZE(2 * BLOCK)), _SIZE(half * BLOCK))
            call("tileloadd64", _BYTE(4 + 2 * side + half), _bytes(builder, base, offset), _SIZE(4 * SIDE))
    for m, n in np.ndindex(2, 2):
        call("tdpbf16ps", _BYTE(2 * m + n), _BYTE(4 + m), _BYTE(6 + n))
    following = builder.add(k, _SIZE(1))
    k.add_incoming(_SIZE(0), entry)
    k.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
    builder.position_at_end(after)
    each_sum("tilestored64", *out)


def _by_registers(builder, depth, a, b, start, out):
    """By AVX-512's sums of pairs, for 8 rows at a time: their sums fill 16 registers."""
    rows, vector, pairs = 8, ir.VectorType(ir.FloatType(), SIDE), ir.VectorType(BFLOAT, 2 * SIDE)
    dot = declared(builder, "llvm.x86.avx512bf16.dpbf16ps.512", vector, vector, pairs, pairs)

    def each_sum(base, step, m):
        for row, v in np.ndindex(rows, 2):
            offset = builder.add(builder.mul(step, _SIZE(m + row)), _SIZE(v * SIDE))
            yield vector_at(builder, base, offset, SIDE)

    for m in range(0, PANEL, rows):
        first = [builder.load(place, align=4) for place in each_sum(*start, m)]
        entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        k, sums = builder.phi(_SIZE), [builder.phi(vector) for _ in first]  # k: pairs, SIDE of them in a block
        block, pair = builder.and_(k, _SIZE(-SIDE)), builder.and_(k, _SIZE(SIDE - 1))
        block = builder.mul(block, _SIZE(2 * BLOCK // SIDE))
        row_of_b = builder.gep(b, [builder.add(block, builder.mul(pair, _SIZE(SIDE)))])
        column_of_a = builder.gep(a, [builder.add(block, pair)])
        right = [builder.load(vector_at(builder, row_of_b, v * BLOCK, SIDE), align=64) for v in range(2)]
        right, added = [builder.bitcast(x, pairs) for x in right], []
        for row in range(rows):
            half, below = divmod(m + row, SIDE)
            alone = builder.load(builder.gep(column_of_a, [_SIZE(half * BLOCK + below * SIDE)]))
            left = builder.bitcast(repeated(builder, alone, vector), pairs)
            added += [builder.call(dot, [sums[2 * row + v], left, right[v]]) for v in range(2)]
        following = builder.add(k, _SIZE(1))
        for phi, begun, more in zip([k, *sums], [_SIZE(0), *first], [following, *added], strict=True):
            phi.add_incoming(begun, entry)
            phi.add_incoming(more, body)
        builder.cbranch(builder.icmp_signed("<", following, builder.mul(depth, _SIZE(SIDE))), body, after)
        builder.position_at_end(after)
        for total, place in zip(added, each_sum(*out, m), strict=True):
            builder.store(total, place, align=4)


@intrinsic
def begin_tiles(typing, settings):
    """Before products on this thread: AMX's tiles are set up."""

    def generate(context, builder, signature, args):
        if HAS_AMX:
            where = context.make_array(signature.args[0])(context, builder, args[0]).data
            load = declared(builder, "llvm.x86.ldtilecfg", ir.VoidType(), _BYTE.as_pointer())
            builder.call(load, [builder.bitcast(where, _BYTE.as_pointer())])
        return context.get_dummy_value()

    return types.void(settings), generate


@intrinsic
def end_tiles(typing):
    """After them: the system need not keep the tiles for this thread any more."""

    def generate(context, builder, signature, args):
        if HAS_AMX:
            builder.call(declared(builder, "llvm.x86.tilerelease", ir.VoidType()), [])
        return context.get_dummy_value()

    return types.void(), generate


# ------------------------------------------------------------------------------------- rounding to pairs


def _round(alternate):
    """The function `round_row` or `round_columns`."""

    @intrinsic
    def rounded(typing, x, low_at, low_count, high_at, high_count, packed, at):
        """packed[at:][:16] = 32 numbers of x, rounded to bfloat16, as 16 pairs; 64 bytes aligned.

        They are low, the first 16 from low_at on, and high, those from high_at on; zero where there are not so many.
        round_row makes pairs of neighbours, low's before high's; round_columns of a number of low and one of high.
        """

        def generate(context, builder, signature, args):
            (low,) = pointers(context, builder, signature, args, (0,))
            high = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[3]])
            (target,) = pointers(context, builder, signature, args, (5,))
            words = []
            for base, count in ((low, args[2]), (high, args[4])):
                place = vector_at(builder, base, 0, SIDE)
                if alternate:  # a few numbers of each of many rows: there a branch costs more than a mask
                    numbers = masked_load(builder, place, below(builder, count, SIDE))
                else:
                    numbers = load_some(builder, place, count)
                narrow = ir.VectorType(BFLOAT, SIDE)
                convert = declared(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", narrow, numbers.type)
                words.append(builder.bitcast(builder.call(convert, [numbers]), ir.VectorType(ir.IntType(16), SIDE)))
            order = [i // 2 + i % 2 * SIDE if alternate else i for i in range(2 * SIDE)]
            together = chosen(builder, *words, order)
            where = vector_at(builder, target, 0, SIDE)
            builder.store(builder.bitcast(together, where.type.pointee), where, align=64)
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, size, size, packed, size), generate

    return rounded


round_row, round_columns = _round(alternate=False), _round(alternate=True)


@jit
def pack_step(place, strided, turned, n, across, K, along, packed, at):
    """A step of a panel, from the number `across` of x's n rows or columns and `along` of the K summed on.

    place: x's memory, where x begins in it, the distance of x's rows. strided: numbers along the sum are a row of x
    apart, else neighbours. turned: that yields columns where a block's rows are wanted, or rows for columns.
    """
    memory, start, step = place
    for half in range(2):
        here, target = across + half * SIDE, at + half * BLOCK
        for row in range(SIDE):
            if strided:
                low, more = start + (along + 2 * row) * step + here, K - along - 2 * row
                count, after = n - here if more > 0 else 0, n - here if more > 1 else 0
                round_columns(memory, low, count, low + step, after, packed, target + row * SIDE)
            else:
                low, more = start + (here + row) * step + along, K - along if here + row < n else 0
                round_row(memory, low, more, low + SIDE, more - SIDE, packed, target + row * SIDE)
        if turned:
            transpose(packed, target, SIDE, SIDE, SIDE, packed, target, SIDE, SIDE)


def _bytes(builder, base, offset):
    return builder.bitcast(builder.gep(base, [offset]), _BYTE.as_pointer())
