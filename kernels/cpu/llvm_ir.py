"""LLVM instructions for the intrinsics of `vector_ops` and the micro-kernels: each function adds some to a builder."""

from llvmlite import ir


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


def masked_store(builder, numbers, pointer, mask):
    name, align = _masked("store", numbers.type)
    store = declared(builder, name, ir.VoidType(), numbers.type, pointer.type, align.type, mask.type)
    builder.call(store, [numbers, pointer, align, mask])


def _masked(what, vector):
    """(LLVM's name of a masked load or store, the alignment of its numbers)."""
    bits = {"float": 32, "double": 64}[str(vector.element)]
    return f"llvm.masked.{what}.v{vector.count}f{bits}.p0", ir.IntType(32)(bits // 8)


def maximum(builder, x, y):
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
