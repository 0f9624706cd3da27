"""Operations on vector registers for compiled code: copies and transposes of blocks, a maximum, an atomic counter."""

from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.llvm_ir import (
    below,
    block,
    broadcast,
    masked_load,
    masked_store,
    maximum,
    pointer,
    shuffle,
    vector_at,
)

REGISTER_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32  # of a vector register


class Block(NamedTuple):
    """A matrix inside a flat array. A row is contiguous; where the text says so, a column is."""

    array: Any  # (n,)
    start: int  # the index of the first number
    stride: int  # from one row to the next, in numbers; 0: all rows are the same one


def lanes(dtype: np.dtype) -> int:
    """How many numbers of this dtype a vector register holds."""
    return REGISTER_BYTES // dtype.itemsize


def _lanes(dtype: Any) -> int:
    """`lanes` of a Numba type."""
    return 8 * REGISTER_BYTES // dtype.bitwidth


@intrinsic
def copy_columns(typing, source, rows, count, target, width):
    """target (rows, width) = the first `count` columns of source, then zeros.

    source, target: `Block`. width: `lanes` at most. Where count is larger than width, more than width numbers of a row
    may be read.
    """
    number = target.types[0].dtype
    lanes = _lanes(number)

    def generate(context, builder, signature, args):
        (source, source_stride), (target, target_stride) = (block(context, builder, signature, args, i) for i in (0, 3))
        _, rows, count, _, width = args
        size, written = ir.IntType(64), below(builder, width, lanes)

        def each_row(load):
            entry, body, after = builder.block, builder.append_basic_block("row"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", rows, size(0)), body, after)
            builder.position_at_end(body)
            row = builder.phi(size)
            numbers = load(vector_at(builder, source, builder.mul(row, source_stride), lanes))
            masked_store(builder, numbers, vector_at(builder, target, builder.mul(row, target_stride), lanes), written)
            next_row = builder.add(row, size(1))
            row.add_incoming(size(0), entry)
            row.add_incoming(next_row, body)
            builder.cbranch(builder.icmp_signed("<", next_row, rows), body, after)
            builder.position_at_end(after)

        with builder.if_else(builder.icmp_signed(">=", count, size(lanes))) as (complete, partial):
            with complete:  # a mask would make it slower
                each_row(lambda place: builder.load(place, align=number.bitwidth // 8))
            with partial:
                read = below(builder, count, lanes)
                each_row(lambda place: masked_load(builder, place, read))
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64), generate


@intrinsic
def transpose(typing, source, rows, columns, target, width):
    """target (columns, width) = source (rows, columns) transposed, zero from column `rows` on.

    source, target: `Block`. At most `lanes` of rows, columns and width are used. Where rows is larger than width, more
    than width rows of source may be read.
    """
    number = target.types[0].dtype
    lanes = _lanes(number)

    def generate(context, builder, signature, args):
        (source, source_stride), (target, target_stride) = (block(context, builder, signature, args, i) for i in (0, 3))
        _, rows, columns, _, width = args
        size, written = ir.IntType(64), below(builder, width, lanes)

        def transposed(load, store):
            square = [
                load(i, vector_at(builder, source, builder.mul(source_stride, size(i)), lanes)) for i in range(lanes)
            ]
            half = lanes // 2
            while half:  # exchange the upper right and the lower left quarter of all blocks of twice that size
                for i in range(lanes):
                    if not i & half:
                        pair, j = (square[i], square[i + half]), range(lanes)
                        square[i] = shuffle(builder, *pair, [lanes + n - half if n & half else n for n in j])
                        square[i + half] = shuffle(builder, *pair, [lanes + n if n & half else n + half for n in j])
                half //= 2
            for k in range(lanes):
                store(k, square[k], vector_at(builder, target, builder.mul(target_stride, size(k)), lanes))

        def if_below(i, n, mask):
            return builder.and_(mask, broadcast(builder, builder.icmp_signed(">", n, size(i)), mask.type))

        has_all = [builder.icmp_signed(">=", n, size(lanes)) for n in (rows, columns)]
        with builder.if_else(builder.and_(*has_all)) as (complete, partial):
            with complete:  # masks would make it slower
                transposed(
                    lambda i, place: builder.load(place, align=number.bitwidth // 8),
                    lambda k, numbers, place: masked_store(builder, numbers, place, written),
                )
            with partial:
                read = below(builder, columns, lanes)
                transposed(
                    lambda i, place: masked_load(builder, place, if_below(i, rows, read)),
                    lambda k, numbers, place: masked_store(builder, numbers, place, if_below(k, columns, written)),
                )
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64), generate


@intrinsic
def largest(typing, x, start, count, least):
    """The largest of `least` and x[start : start + count], a multiple of `lanes`; one of them must not be NaN."""
    lanes = _lanes(x.dtype)

    def generate(context, builder, signature, args):
        source = pointer(context, builder, signature, args, 0, args[1])
        least = broadcast(builder, args[3], ir.VectorType(source.type.pointee, lanes))
        entry, body = builder.block, builder.append_basic_block("step")
        after = builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        i, so_far = builder.phi(args[2].type), builder.phi(least.type)
        numbers = builder.load(vector_at(builder, source, i, lanes), align=x.dtype.bitwidth // 8)
        larger, next_i = maximum(builder, numbers, so_far), builder.add(i, i.type(lanes))
        for phi, first, later in ((i, i.type(0), next_i), (so_far, least, larger)):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", next_i, args[2]), body, after)
        builder.position_at_end(after)
        half = lanes // 2
        while half:
            larger = maximum(builder, larger, shuffle(builder, larger, larger, [n ^ half for n in range(lanes)]))
            half //= 2
        return builder.extract_element(larger, ir.IntType(32)(0))

    return x.dtype(x, types.int64, types.int64, x.dtype), generate


@intrinsic
def fetch_add(typing, counters, i):
    """counters[i], which becomes one more, atomically: no two threads get the same number."""

    def generate(context, builder, signature, args):
        counter = pointer(context, builder, signature, args, 0, args[1])
        return builder.atomic_rmw("add", counter, ir.IntType(64)(1), "monotonic")

    return types.int64(counters, types.int64), generate
