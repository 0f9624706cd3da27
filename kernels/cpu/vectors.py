"""The innermost loop of a matrix product, in the processor's vector registers.

Numba has no way to say which numbers stay in registers, so the loop is put together from LLVM's instructions: the sums
are its phi nodes. On a processor with 512-bit registers there are 32 of them; 28 hold sums, two a row of b.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.arrays import CACHE_LINE

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
_BYTES = 64 if _WIDE else 32  # of a register
_AHEAD = 16  # steps after which what is fetched from the outer caches now will be needed
VECTORS = 2  # of a row of b's panel
ROWS = 14 if _WIDE else 6  # of a tile: its sums fill the registers
FEW_ROWS = 8 if _WIDE else 4  # of a smaller one, which divide what attention multiplies
LEAST_ROWS = FEW_ROWS // 2  # of the smallest, for what remains of a product's rows


def lanes(dtype):
    """How many numbers of this dtype a register holds."""
    return _BYTES // dtype.itemsize


def _small_tile(n_rows, by_columns):
    """The function `small` for so many rows of out. by_columns: how a lies in memory."""

    @intrinsic
    def small(typing, depth, a, a_at, a_step, b, b_at, b_step, start, start_at, start_step, out, out_at, out_step):
        """out (n_rows, columns) = start + a @ b. a (n_rows, depth), b (depth, columns); depth at least 1.

        All are parts of flat arrays of one dtype, each from an index on. A row lies so many numbers behind the one
        before, or a column, of a if by_columns: with start_step 0 all rows start alike. Each row of b begins a cache
        line.
        """
        size = types.int64
        each = [x for array in (a, b, start, out) for x in (array, size, size)]
        return types.void(size, *each), lambda *given: _multiply_add(*given, n_rows, by_columns)

    return small


@intrinsic
def tile(
    typing, depth, a, a_at, a_step, b, b_at, b_step, start, start_at, start_step, out, out_at, out_step,
    later, later_at, later_step, later_lines,
):  # fmt: skip
    """out (ROWS, columns) = start + a @ b as `small_tile` has it, while the processor fetches what is needed soon.

    That is a and b some steps ahead, all of out, and a cache line of `later` at each step: later_lines of a row there,
    then those of the next row, which lies later_step numbers further on.
    """
    size = types.int64
    each = [x for array in (a, b, start, out, later) for x in (array, size, size)]
    return types.void(size, *each, size), lambda *given: _multiply_add(*given, ROWS, by_columns=True, fetching=True)


def _multiply_add(context, builder, signature, args, n_rows, by_columns, fetching=False):
    """A tile's instructions: the sums are phi nodes of a loop over depth, each step adds an outer product to them."""
    a, b, begin, end = pointers(context, builder, signature, args, (1, 4, 7, 10))
    depth, a_step, b_step, start_step, out_step = (args[i] for i in (0, 3, 6, 9, 12))
    size, number = ir.IntType(64), end.type.pointee
    lanes, align = 8 * _BYTES // signature.args[10].dtype.bitwidth, signature.args[10].dtype.bitwidth // 8
    vector, places = ir.VectorType(number, lanes), [(row, v) for row in range(n_rows) for v in range(VECTORS)]

    def place(base, step, row, v):
        return vector_at(builder, base, builder.add(builder.mul(step, size(row)), size(v * lanes)), lanes)

    if fetching:
        (later,), later_step, later_lines = pointers(context, builder, signature, args, (13,)), args[15], args[16]
        for row, v in places:
            offset = builder.add(builder.mul(out_step, size(row)), size(v * lanes))
            prefetch(builder, builder.gep(end, [offset]), write=True)
    first = [builder.load(place(begin, start_step, row, v), align=align) for row, v in places]
    entry, body, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    k, sums = builder.phi(size), [builder.phi(vector) for _ in places]
    far_row, far_line = (builder.phi(size), builder.phi(size)) if fetching else (None, None)
    row_of_b = builder.gep(b, [builder.mul(k, b_step)])
    column_of_a = builder.gep(a, [builder.mul(k, a_step) if by_columns else k])
    if fetching:
        prefetch(builder, builder.gep(column_of_a, [builder.mul(a_step, size(_AHEAD))]))
        for v in range(VECTORS):
            prefetch(builder, builder.gep(row_of_b, [builder.add(builder.mul(b_step, size(_AHEAD)), size(v * lanes))]))
        far = builder.add(far_row, builder.mul(far_line, size(CACHE_LINE // align)))
        prefetch(builder, builder.gep(later, [far]), level=2)
    right = [builder.load(vector_at(builder, row_of_b, v * lanes, lanes), align=_BYTES) for v in range(VECTORS)]
    added = []
    for row in range(n_rows):
        down = size(row) if by_columns else builder.mul(a_step, size(row))
        left = repeated(builder, builder.load(builder.gep(column_of_a, [down])), vector)
        for v in range(VECTORS):
            product = builder.fmul(left, right[v], flags=("contract",))
            added.append(builder.fadd(sums[row * VECTORS + v], product, flags=("contract",)))
    following = builder.add(k, size(1))
    phis, begun, more = [k, *sums], [size(0), *first], [following, *added]
    if fetching:
        phis, begun = [*phis, far_row, far_line], [*begun, size(0), size(0)]
        more += _line_after(builder, far_row, far_line, later_step, later_lines)
    for phi, at_first, then in zip(phis, begun, more, strict=True):
        phi.add_incoming(at_first, entry)
        phi.add_incoming(then, body)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
    builder.position_at_end(after)
    for total, (row, v) in zip(added, places, strict=True):
        builder.store(total, place(end, out_step, row, v), align=align)
    return context.get_dummy_value()


def _line_after(builder, row, line, step, lines):
    """The cache line to fetch next: where its row begins, and which one of the row's `lines` it is."""
    following = builder.add(line, line.type(1))
    ended = builder.icmp_signed("==", following, lines)
    return builder.select(ended, builder.add(row, step), row), builder.select(ended, line.type(0), following)


small_tile, small_tile_by_rows = (_small_tile(FEW_ROWS, by_columns) for by_columns in (True, False))
tiny_tile = _small_tile(LEAST_ROWS, by_columns=True)


@intrinsic
def copy(typing, source, source_at, step, rows, count, target, target_at, target_step, width):
    """A block of some rows: each of target = the first `count` numbers of source's, then zeros; `width` of them.

    width: `lanes` at most. A row of source lies `step` elements behind the one before, one of target `target_step`.
    Of source more than `width` numbers may be read where count is larger.
    """
    lanes = 8 * _BYTES // target.dtype.bitwidth

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
            _masked_store(builder, numbers, vector_at(builder, far, builder.mul(row, target_step), lanes), written)
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
    lanes = 8 * _BYTES // target.dtype.bitwidth

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
                    lambda k, numbers, place: _masked_store(builder, numbers, place, across),
                )
            with part:
                along = below(builder, depth, lanes)
                turn(
                    lambda i, place: masked_load(builder, place, of_some(i, rows, along)),
                    lambda k, numbers, place: _masked_store(builder, numbers, place, of_some(k, depth, across)),
                )
        return context.get_dummy_value()

    size = types.int64
    return types.void(source, size, size, size, size, target, size, size, size), generate


@intrinsic
def largest(typing, x, at, count, least):
    """The largest of `least` and `count` numbers from x[at] on, a multiple of `lanes`; one of them must not be NaN."""
    lanes = 8 * _BYTES // x.dtype.bitwidth

    def generate(context, builder, signature, args):
        (near,) = pointers(context, builder, signature, args, (0,))
        start = repeated(builder, args[3], ir.VectorType(near.type.pointee, lanes))
        entry, body = builder.block, builder.append_basic_block("step")
        after = builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        i, found = builder.phi(args[2].type), builder.phi(start.type)
        here = builder.load(vector_at(builder, near, i, lanes), align=x.dtype.bitwidth // 8)
        larger, following = _larger(builder, here, found), builder.add(i, i.type(lanes))
        for phi, first, later in ((i, i.type(0), following), (found, start, larger)):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", following, args[2]), body, after)
        builder.position_at_end(after)
        half = lanes // 2
        while half:
            larger = _larger(builder, larger, chosen(builder, larger, larger, [n ^ half for n in range(lanes)]))
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


# ------------------------------------------------------------------------------------------------ LLVM's instructions


def prefetch(builder, pointer, write=False, level=3):
    """Have the processor fetch what lies there, to read it or to write over it. level: 3 is the innermost cache."""
    flag, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    call = declared(builder, "llvm.prefetch.p0", ir.VoidType(), byte, flag, flag, flag)
    builder.call(call, [builder.bitcast(pointer, byte), flag(int(write)), flag(level), flag(1)])


def pointers(context, builder, signature, args, arrays):
    """Pointers into the arrays at these places among args, from the index on that comes next there."""
    return [
        builder.gep(context.make_array(signature.args[i])(context, builder, args[i]).data, [args[i + 1]])
        for i in arrays
    ]


def vector_at(builder, pointer, offset, lanes):
    """A pointer to the vector that begins `offset` numbers further on."""
    offset = ir.IntType(64)(offset) if isinstance(offset, int) else offset
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def below(builder, n, lanes):
    """Which of the numbers 0, 1, ... are below n: a mask."""
    lane = ir.Constant(ir.VectorType(ir.IntType(64), lanes), list(range(lanes)))
    return builder.icmp_signed("<", lane, repeated(builder, n, lane.type))


def masked_load(builder, pointer, mask):
    """The vector there, zero where masked out, where nothing is read."""
    vector = pointer.type.pointee
    name, align = _masked("load", vector)
    load = declared(builder, name, vector, pointer.type, align.type, mask.type, vector)
    return builder.call(load, [pointer, align, mask, ir.Constant(vector, None)])


def load_some(builder, pointer, count):
    """The vector there, zero from its `count`-th number on, where nothing is read. A whole one needs no mask."""
    vector, align = pointer.type.pointee, _masked("load", pointer.type.pointee)[1].constant
    with builder.if_else(builder.icmp_signed(">=", count, count.type(vector.count))) as (whole, part):
        with whole:
            numbers, entry = builder.load(pointer, align=align), builder.block
        with part:
            some, other = masked_load(builder, pointer, below(builder, count, vector.count)), builder.block
    found = builder.phi(vector)
    found.add_incoming(numbers, entry)
    found.add_incoming(some, other)
    return found


def _masked_store(builder, numbers, pointer, mask):
    name, align = _masked("store", numbers.type)
    store = declared(builder, name, ir.VoidType(), numbers.type, pointer.type, align.type, mask.type)
    builder.call(store, [numbers, pointer, align, mask])


def _masked(what, vector):
    """(LLVM's name of a masked load or store, the alignment of its numbers)."""
    bits = {"float": 32, "double": 64}[str(vector.element)]
    return f"llvm.masked.{what}.v{vector.count}f{bits}.p0", ir.IntType(32)(bits // 8)


def _larger(builder, x, y):
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def chosen(builder, x, y, which):
    """A vector of the elements of x and y, which count on from those of x."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(which)), which))


def declared(builder, name, result, *arguments):
    """One of LLVM's own functions."""
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def repeated(builder, x, vector):
    """A vector of which every element is x."""
    nothing = ir.Constant(vector, ir.Undefined)
    alone = builder.insert_element(nothing, x, ir.IntType(32)(0))
    return builder.shuffle_vector(alone, nothing, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))
