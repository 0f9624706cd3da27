"""Operations on vector registers, for compiled code: copies and transposes of blocks, a maximum, an atomic counter."""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.llvm_ir import below, chosen, masked_load, masked_store, maximum, pointers, repeated, vector_at

REGISTER_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32  # of a vector register


def lanes(dtype):
    """How many numbers of this dtype a register holds."""
    return REGISTER_BYTES // dtype.itemsize


@intrinsic
def copy(typing, source, source_at, step, rows, count, target, target_at, target_step, width):
    """A block of some rows: each of target = the first `count` numbers of source's, then zeros; `width` of them.

    width: `lanes` at most. A row of source lies `step` elements behind the one before, one of target `target_step`.
    Of source more than `width` numbers may be read where count is larger.
    """
    lanes = 8 * REGISTER_BYTES // target.dtype.bitwidth

    def generate(context, builder, signature, args):
        near, far = pointers(context, builder, signature, args, (0, 5))
        step, rows, count, target_step, width = (args[i] for i in (2, 3, 4, 7, 8))
        size, written = ir.IntType(64), below(builder, width, lanes)

        def each_row(load):
            entry, body, after = builder.block, builder.append_basic_block("row"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", rows, size(0)), body, after)
            builder.position_at_end(body)
            row = builder.phi(size)
            numbers = load(vector_at(builder, near, builder.mul(row, step), lanes))
            masked_store(builder, numbers, vector_at(builder, far, builder.mul(row, target_step), lanes), written)
            following = builder.add(row, size(1))
            row.add_incoming(size(0), entry)
            row.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, rows), body, after)
            builder.position_at_end(after)

        with builder.if_else(builder.icmp_signed(">=", count, size(lanes))) as (whole, part):
            with whole:  # a mask would make it slower
                each_row(lambda place: builder.load(place, align=target.dtype.bitwidth // 8))
            with part:
                read = below(builder, count, lanes)
                each_row(lambda place: masked_load(builder, place, read))
        return context.get_dummy_value()

    size = types.int64
    return types.void(source, size, size, size, size, target, size, size, size), generate


@intrinsic
def transpose(typing, source, source_at, step, rows, depth, target, target_at, target_step, width):
    """target (depth, width) = source (rows, depth) transposed, zero where there are not so many rows.

    Of depth and width `lanes` at most are meant. A row of source lies `step` elements behind the one before, one of
    target `target_step`. Of source more than `width` rows may be read where there are more.
    """
    lanes = 8 * REGISTER_BYTES // target.dtype.bitwidth

    def generate(context, builder, signature, args):
        near, far = pointers(context, builder, signature, args, (0, 5))
        step, rows, depth, target_step, width = (args[i] for i in (2, 3, 4, 7, 8))
        size, across = ir.IntType(64), below(builder, width, lanes)

        def turn(load, store):
            block = [load(i, vector_at(builder, near, builder.mul(step, size(i)), lanes)) for i in range(lanes)]
            half = lanes // 2
            while half:  # exchange the upper right and the lower left quarter of all blocks of twice that size
                for i in range(lanes):
                    if not i & half:
                        pair, j = (block[i], block[i + half]), range(lanes)
                        block[i] = chosen(builder, *pair, [lanes + n - half if n & half else n for n in j])
                        block[i + half] = chosen(builder, *pair, [lanes + n if n & half else n + half for n in j])
                half //= 2
            for k in range(lanes):
                store(k, block[k], vector_at(builder, far, builder.mul(target_step, size(k)), lanes))

        def of_some(i, n, mask):
            return builder.and_(mask, repeated(builder, builder.icmp_signed(">", n, size(i)), mask.type))

        complete = [builder.icmp_signed(">=", n, size(lanes)) for n in (rows, depth)]
        with builder.if_else(builder.and_(*complete)) as (whole, part):
            with whole:  # masks would make it slower
                turn(
                    lambda i, place: builder.load(place, align=target.dtype.bitwidth // 8),
                    lambda k, numbers, place: masked_store(builder, numbers, place, across),
                )
            with part:
                along = below(builder, depth, lanes)
                turn(
                    lambda i, place: masked_load(builder, place, of_some(i, rows, along)),
                    lambda k, numbers, place: masked_store(builder, numbers, place, of_some(k, depth, across)),
                )
        return context.get_dummy_value()

    size = types.int64
    return types.void(source, size, size, size, size, target, size, size, size), generate


@intrinsic
def largest(typing, x, at, count, least):
    """The largest of `least` and `count` numbers from x[at] on, a multiple of `lanes`; one of them must not be NaN."""
    lanes = 8 * REGISTER_BYTES // x.dtype.bitwidth

    def generate(context, builder, signature, args):
        (near,) = pointers(context, builder, signature, args, (0,))
        start = repeated(builder, args[3], ir.VectorType(near.type.pointee, lanes))
        entry, body = builder.block, builder.append_basic_block("step")
        after = builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        i, found = builder.phi(args[2].type), builder.phi(start.type)
        here = builder.load(vector_at(builder, near, i, lanes), align=x.dtype.bitwidth // 8)
        larger, following = maximum(builder, here, found), builder.add(i, i.type(lanes))
        for phi, first, later in ((i, i.type(0), following), (found, start, larger)):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", following, args[2]), body, after)
        builder.position_at_end(after)
        half = lanes // 2
        while half:
            larger = maximum(builder, larger, chosen(builder, larger, larger, [n ^ half for n in range(lanes)]))
            half //= 2
        return builder.extract_element(larger, ir.IntType(32)(0))

    return x.dtype(x, types.int64, types.int64, x.dtype), generate


@intrinsic
def take(typing, counters, i):
    """counters[i], which is one more from then on: no two threads get the same."""

    def generate(context, builder, signature, args):
        place = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(counters, types.int64), generate
