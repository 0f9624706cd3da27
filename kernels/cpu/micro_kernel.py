"""The innermost loop of a matrix product, in the processor's vector registers.

Numba has no way to say which numbers stay in registers, so the loop is put together from LLVM's instructions: the sums
are its phi nodes. On a processor with 512-bit registers there are 32 of them; 28 hold sums, two a row of b.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.arrays import CACHE_LINE
from kernels.cpu.llvm_ir import pointers, prefetch, repeated, vector_at
from kernels.cpu.vector_ops import REGISTER_BYTES

_WIDE = REGISTER_BYTES == 64
_AHEAD = 16  # steps after which what is fetched from the outer caches now will be needed
VECTORS = 2  # of a row of b's panel
ROWS = 14 if _WIDE else 6  # of a tile: its sums fill the registers
FEW_ROWS = 8 if _WIDE else 4  # of a smaller one, which divide what attention multiplies
LEAST_ROWS = FEW_ROWS // 2  # of the smallest, for what remains of a product's rows


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
    lanes, align = 8 * REGISTER_BYTES // signature.args[10].dtype.bitwidth, signature.args[10].dtype.bitwidth // 8
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
    right = [builder.load(vector_at(builder, row_of_b, v * lanes, lanes), align=REGISTER_BYTES) for v in range(VECTORS)]
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
