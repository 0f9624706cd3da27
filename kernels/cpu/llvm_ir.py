"""LLVM instructions behind the intrinsics of `vector_copies` and of the micro-kernels, added to a builder."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir


def pointer(
    context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value], i: int, index: ir.Value
) -> ir.Value:
    """A pointer to the number at `index` of the flat array that is argument i."""
    return builder.gep(context.make_array(signature.args[i])(context, builder, args[i]).data, [index])


def block(
    context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value], i: int
) -> tuple[ir.Value, ir.Value]:
    """(pointer to the first number, stride) of argument i, a `vector_copies.Block`."""
    array, start, stride = (builder.extract_value(args[i], field) for field in range(3))
    data = context.make_array(signature.args[i].types[0])(context, builder, array).data
    return builder.gep(data, [start]), stride


def vector_at(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value | int, lanes: int) -> ir.Value:
    """A pointer to the vector of `lanes` numbers that begins `offset` numbers after `pointer`."""
    offset = ir.IntType(64)(offset) if isinstance(offset, int) else offset
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, write: bool = False, level: int = 3) -> None:
    """Prefetch the cache line at `pointer`, to read it or to write to it. level: 3 is the first-level cache."""
    flag, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    call = declared(builder, "llvm.prefetch.p0", ir.VoidType(), byte, flag, flag, flag)
    builder.call(call, [builder.bitcast(pointer, byte), flag(int(write)), flag(level), flag(1)])


# ---------------------------------------------------------------------------------------------- masks


def below(builder: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    """The mask of the first n lanes."""
    lane = ir.Constant(ir.VectorType(ir.IntType(64), lanes), list(range(lanes)))
    return builder.icmp_signed("<", lane, broadcast(builder, n, lane.type))


def masked_load(builder: ir.IRBuilder, pointer: ir.Value, mask: ir.Value) -> ir.Value:
    """The vector at `pointer`; lanes that are masked out are zero, and their memory is not read."""
    vector = pointer.type.pointee
    name, align = _masked("load", vector)
    load = declared(builder, name, vector, pointer.type, align.type, mask.type, vector)
    return builder.call(load, [pointer, align, mask, ir.Constant(vector, None)])


def load_first(builder: ir.IRBuilder, pointer: ir.Value, count: ir.Value) -> ir.Value:
    """The first `count` lanes of the vector at `pointer`, then zeros; memory past `count` numbers is not read.

    A branch loads a complete vector without a mask.
    """
    vector, align = pointer.type.pointee, _masked("load", pointer.type.pointee)[1].constant
    with builder.if_else(builder.icmp_signed(">=", count, count.type(vector.count))) as (complete, partial):
        with complete:
            all_lanes, complete_block = builder.load(pointer, align=align), builder.block
        with partial:
            first_lanes = masked_load(builder, pointer, below(builder, count, vector.count))
            partial_block = builder.block
    loaded = builder.phi(vector)
    loaded.add_incoming(all_lanes, complete_block)
    loaded.add_incoming(first_lanes, partial_block)
    return loaded


def masked_store(builder: ir.IRBuilder, numbers: ir.Value, pointer: ir.Value, mask: ir.Value) -> None:
    """Store the lanes of `numbers` that the mask selects."""
    name, align = _masked("store", numbers.type)
    store = declared(builder, name, ir.VoidType(), numbers.type, pointer.type, align.type, mask.type)
    builder.call(store, [numbers, pointer, align, mask])


def _masked(operation: str, vector: ir.VectorType) -> tuple[str, ir.Constant]:
    """(LLVM's name of a masked load or store, the alignment of its numbers in bytes)."""
    bits = {"float": 32, "double": 64}[str(vector.element)]
    return f"llvm.masked.{operation}.v{vector.count}f{bits}.p0", ir.IntType(32)(bits // 8)


# -------------------------------------------------------------------------------------------- vectors


def maximum(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger number of each lane; y's where one is NaN."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def shuffle(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """The vector of these lanes of x and y; y's lanes are counted on from x's."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def broadcast(builder: ir.IRBuilder, x: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A vector of this type with x in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, x, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))


def declared(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    """The LLVM intrinsic of that name, declared in the builder's module."""
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)
