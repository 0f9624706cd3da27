"""The micro-kernel of bfloat16 numbers with float32 sums, by the processor's own instructions: AMX or AVX512-BF16.

These instructions take the numbers two by two along the sum: a pair of a times a pair of b is a0 b0 + a1 b1. An operand
is packed in tiles, each of the size of an AMX tile register: 16 rows of 16 pairs (1 KB). In a tile of `a` a row is a
row of the product; in a tile of `b` it is a step along the sum, with a pair for each of 16 columns (Intel's VNNI
layout). Two tiles, one below the other, are a step of a panel.
"""

import ctypes
import platform
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.compile import jit
from kernels.cpu.llvm_ir import (
    below,
    broadcast,
    declared,
    load_first,
    masked_load,
    pointer,
    prefetch,
    shuffle,
    vector_at,
)
from kernels.cpu.vector_copies import Block, transpose

TILE = 16  # rows of a tile, and pairs of its row
TILE_PAIRS = TILE * TILE
MR = NR = 2 * TILE  # rows and columns of out in the micro-kernel
STEP = 2 * TILE  # numbers of a sum in a tile: what the micro-kernel takes at once; equal to MR and NR
STEP_PAIRS = 2 * TILE_PAIRS  # of a step of a panel
_FEATURES = llvmlite.binding.get_host_cpu_features()
_BYTE, _SIZE = ir.IntType(8), ir.IntType(64)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self):
        return "bfloat"


BFLOAT = _BFloat()


def _amx():
    """Whether this processor has AMX, and the system grants its use: on Linux a program has to ask."""
    if platform.system() != "Linux" or not (_FEATURES.get("amx-bf16") and _FEATURES.get("avx512bf16")):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # of Linux on x86-64
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


HAS_AMX = _amx()
HAS_BFLOAT16 = HAS_AMX or bool(_FEATURES.get("avx512bf16"))
_TILE_CONFIG = np.zeros(64, np.uint8)  # of LDTILECFG: palette 1, eight tiles of 16 rows of 64 bytes
_TILE_CONFIG[0], _TILE_CONFIG[16:32:2], _TILE_CONFIG[48:56] = 1, 64, 16


def tile_config() -> Any:
    """What compiled bfloat16 products take as `config`. RuntimeError on a processor that has no such products."""
    if not HAS_BFLOAT16:  # the compiler would end the process
        raise RuntimeError("this processor has no instruction for bfloat16 products; call minigrad.runtime."
                           "set_matmul_precision, which then chooses float32")  # fmt: skip
    return _TILE_CONFIG


# ---------------------------------------------------------------------------------------- the micro-kernel


@intrinsic
def micro_kernel(typing, steps, a, b, initial, out, starts, initial_stride, out_stride):
    """out (MR, NR) = initial + a @ b: two packed panels of at least one step.

    a, b: flat arrays of pairs; their panels are 64 bytes aligned. initial, out: flat arrays of float32, whose rows are
    a stride apart; with stride 0 all rows are the same one. starts: Starts.
    """

    def generate(context, builder, signature, args):
        starts = [builder.extract_value(args[5], operand) for operand in range(4)]
        a, b, initial, out = (pointer(context, builder, signature, args, i, start) for i, start in enumerate(starts, 1))
        initial_stride, out_stride = args[6:]
        for row, half in np.ndindex(MR, 2):  # out is fetched while the sums are formed
            offset = builder.add(builder.mul(out_stride, _SIZE(row)), _SIZE(half * TILE))
            prefetch(builder, builder.gep(out, [offset]), write=True)
        make = _by_amx if HAS_AMX else _by_avx512
        make(builder, args[0], a, b, (initial, initial_stride), (out, out_stride))
        return context.get_dummy_value()

    size = types.int64
    return types.void(size, a, b, initial, out, starts, size, size), generate


def _by_amx(builder, steps, a, b, initial, out):
    """Tile registers 0..3 hold the sums, 4 and 5 the two tiles of a, 6 and 7 those of b."""

    def call(name, *args):
        builder.call(declared(builder, f"llvm.x86.{name}", ir.VoidType(), *(x.type for x in args)), args)

    def each_sum(name, base, stride):
        for m, n in np.ndindex(2, 2):
            offset = builder.add(builder.mul(stride, _SIZE(TILE * m)), _SIZE(TILE * n))
            call(name, _BYTE(2 * m + n), _bytes(builder, base, offset), builder.mul(stride, _SIZE(4)))

    each_sum("tileloadd64", *initial)
    entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_SIZE)
    for operand, base in enumerate((a, b)):
        for half in range(2):
            offset = builder.add(builder.mul(k, _SIZE(STEP_PAIRS)), _SIZE(half * TILE_PAIRS))
            call("tileloadd64", _BYTE(4 + 2 * operand + half), _bytes(builder, base, offset), _SIZE(4 * TILE))
    for m, n in np.ndindex(2, 2):
        call("tdpbf16ps", _BYTE(2 * m + n), _BYTE(4 + m), _BYTE(6 + n))
    next_k = builder.add(k, _SIZE(1))
    k.add_incoming(_SIZE(0), entry)
    k.add_incoming(next_k, body)
    builder.cbranch(builder.icmp_signed("<", next_k, steps), body, after)
    builder.position_at_end(after)
    each_sum("tilestored64", *out)


def _by_avx512(builder, steps, a, b, initial, out):
    """8 rows at a time: their sums fill 16 registers."""
    rows, vector, pairs = 8, ir.VectorType(ir.FloatType(), TILE), ir.VectorType(BFLOAT, 2 * TILE)
    dot = declared(builder, "llvm.x86.avx512bf16.dpbf16ps.512", vector, vector, pairs, pairs)

    def each_sum(base, stride, m):
        for row, v in np.ndindex(rows, 2):
            offset = builder.add(builder.mul(stride, _SIZE(m + row)), _SIZE(v * TILE))
            yield vector_at(builder, base, offset, TILE)

    for m in range(0, MR, rows):
        first_sums = [builder.load(place, align=4) for place in each_sum(*initial, m)]
        entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        k, sums = builder.phi(_SIZE), [builder.phi(vector) for _ in first_sums]  # k: pairs, TILE of them in a step
        step, pair = builder.and_(k, _SIZE(-TILE)), builder.and_(k, _SIZE(TILE - 1))
        step = builder.mul(step, _SIZE(STEP_PAIRS // TILE))
        row_of_b = builder.gep(b, [builder.add(step, builder.mul(pair, _SIZE(TILE)))])
        column_of_a = builder.gep(a, [builder.add(step, pair)])
        row_vectors = [builder.load(vector_at(builder, row_of_b, v * TILE_PAIRS, TILE), align=64) for v in range(2)]
        row_vectors, new_sums = [builder.bitcast(x, pairs) for x in row_vectors], []
        for row in range(rows):
            tile, tile_row = divmod(m + row, TILE)
            pair_of_a = builder.load(builder.gep(column_of_a, [_SIZE(tile * TILE_PAIRS + tile_row * TILE)]))
            pair_of_a = builder.bitcast(broadcast(builder, pair_of_a, vector), pairs)
            new_sums += [builder.call(dot, [sums[2 * row + v], pair_of_a, row_vectors[v]]) for v in range(2)]
        next_k = builder.add(k, _SIZE(1))
        for phi, first, later in zip([k, *sums], [_SIZE(0), *first_sums], [next_k, *new_sums], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", next_k, builder.mul(steps, _SIZE(TILE))), body, after)
        builder.position_at_end(after)
        for total, place in zip(new_sums, each_sum(*out, m), strict=True):
            builder.store(total, place, align=4)


@intrinsic
def configure_tiles(typing, config):
    """To be called on a thread before it calls `micro_kernel`: sets AMX's tile registers up."""

    def generate(context, builder, signature, args):
        if HAS_AMX:
            config = pointer(context, builder, signature, args, 0, _SIZE(0))
            load = declared(builder, "llvm.x86.ldtilecfg", ir.VoidType(), _BYTE.as_pointer())
            builder.call(load, [builder.bitcast(config, _BYTE.as_pointer())])
        return context.get_dummy_value()

    return types.void(config), generate


@intrinsic
def release_tiles(typing):
    """To be called on a thread after its last `micro_kernel`: the system need not save the tiles any more."""

    def generate(context, builder, signature, args):
        if HAS_AMX:
            builder.call(declared(builder, "llvm.x86.tilerelease", ir.VoidType()), [])
        return context.get_dummy_value()

    return types.void(), generate


# ------------------------------------------------------------------------------------------------- packing


def _pack_pairs(interleave):
    """The function `pack_row` or `interleave_rows`."""

    @intrinsic
    def pack_pairs(typing, x, low, low_count, high, high_count, packed, start):
        """packed[start:][:16] = 32 numbers of x, rounded to bfloat16, as 16 pairs; 64 bytes aligned.

        They are x[low:][:16] and x[high:][:16], zero from low_count and high_count on. pack_row makes pairs of
        neighbours, first of low's, then of high's; interleave_rows pairs a number of low with one of high.
        """

        def generate(context, builder, signature, args):
            low, high = (pointer(context, builder, signature, args, 0, args[i]) for i in (1, 3))
            target = pointer(context, builder, signature, args, 5, args[6])
            halves = []
            for base, count in ((low, args[2]), (high, args[4])):
                place = vector_at(builder, base, 0, TILE)
                if interleave:  # a few numbers of each of many rows: there a branch costs more than a mask
                    numbers = masked_load(builder, place, below(builder, count, TILE))
                else:
                    numbers = load_first(builder, place, count)
                rounded = ir.VectorType(BFLOAT, TILE)
                convert = declared(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", rounded, numbers.type)
                halves.append(builder.bitcast(builder.call(convert, [numbers]), ir.VectorType(ir.IntType(16), TILE)))
            order = [i // 2 + i % 2 * TILE if interleave else i for i in range(2 * TILE)]
            pairs = shuffle(builder, *halves, order)
            place = vector_at(builder, target, 0, TILE)
            builder.store(builder.bitcast(pairs, place.type.pointee), place, align=64)
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, size, size, packed, size), generate

    return pack_pairs


pack_row, interleave_rows = _pack_pairs(interleave=False), _pack_pairs(interleave=True)


@jit
def pack_step(source, strided, transposed, n, across, K, along, packed, start):
    """Pack a step of a panel: 32 of the n rows or columns of a Block from the number `across` on, 32 numbers of each.

    These begin at the number `along` of a sum of K. strided: the numbers of a sum are a row of source apart, else
    neighbours. transposed: that yields columns where a tile's rows are wanted, or rows for columns.
    """
    array, base, stride = source
    for half in range(2):
        first, target = across + half * TILE, start + half * TILE_PAIRS
        for row in range(TILE):
            if strided:
                low, left = base + (along + 2 * row) * stride + first, K - along - 2 * row
                low_count, high_count = n - first if left > 0 else 0, n - first if left > 1 else 0
                interleave_rows(array, low, low_count, low + stride, high_count, packed, target + row * TILE)
            else:
                low, left = base + (first + row) * stride + along, K - along if first + row < n else 0
                pack_row(array, low, left, low + TILE, left - TILE, packed, target + row * TILE)
        if transposed:
            tile = Block(packed, target, TILE)
            transpose(tile, TILE, TILE, tile, TILE)


def _bytes(builder, base, offset):
    return builder.bitcast(builder.gep(base, [offset]), _BYTE.as_pointer())
