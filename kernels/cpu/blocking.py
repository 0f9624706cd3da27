"""Sizes of blocks, and copies of them: what matrix products and attention share."""

from kernels.cpu.compile import jit
from kernels.cpu.vector_ops import copy


@jit
def padded(n, multiple):
    """The first multiple that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@jit
def evenly(n, most, multiple=1):
    """How long a share of n is, if they are few, none above the most, and alike as far as multiples can be."""
    shares = (n + most - 1) // most
    return padded((n + shares - 1) // shares, multiple)


@jit
def copy_block(source, at, step, rows, columns, target, to, target_step, lanes):
    """A block (rows, columns) of one flat array into another, given by their first number and their rows' distance."""
    for c in range(0, columns, lanes):
        n = min(lanes, columns - c)
        copy(source, at + c, step, rows, n, target, to + c, target_step, n)
