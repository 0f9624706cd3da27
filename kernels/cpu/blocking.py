"""Sizes of blocks, and copies of them: what matrix products and attention share."""

from kernels.cpu.compile import jit
from kernels.cpu.vector_copies import Block, copy_columns


@jit
def round_up(n, multiple):
    """The smallest multiple of `multiple` that is at least n."""
    return (n + multiple - 1) // multiple * multiple


@jit
def balanced_block(n, most, multiple=1):
    """The size of a block when n is cut into as few blocks as `most` allows, of sizes as equal as multiples can be."""
    blocks = (n + most - 1) // most
    return round_up((n + blocks - 1) // blocks, multiple)


@jit
def copy_block(source, rows, columns, target, lanes):
    """target (rows, columns) = source (rows, columns); both are `Block`."""
    for c in range(0, columns, lanes):
        n = min(lanes, columns - c)
        column_of_source = Block(source.array, source.start + c, source.stride)
        copy_columns(column_of_source, rows, n, Block(target.array, target.start + c, target.stride), n)
