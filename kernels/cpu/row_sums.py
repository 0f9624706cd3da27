"""Sums over many rows: chunks of rows are summed in parallel, then their sums are added up.

The chunks depend on the shape alone, not on the number of threads, so any machine forms the same sums. No sum is formed
of more than a few hundred terms one by one: the error of that grows with their number.
"""

from kernels.cpu.compile import jit

_GROUP, LONGEST = 64, 256


def chunk_rows(n_rows: int, least: int) -> int:
    """How many rows a chunk holds: at least `least`, at most LONGEST, and between the two as for 64 chunks."""
    return max(least, min(LONGEST, -(-n_rows // _GROUP)))


@jit
def sum_chunks(partials, total):
    """total (C,) = the sum of partials (n, C) over its chunks, in groups of 64; partials is overwritten."""
    n = len(partials)
    while n > _GROUP:
        groups = (n + _GROUP - 1) // _GROUP
        for g in range(groups):  # its sum goes where the group before has been read
            _sum_in_order(partials[g * _GROUP : min(n, (g + 1) * _GROUP)], partials[g])
        n = groups
    _sum_in_order(partials[:n], total)


@jit
def _sum_in_order(rows, total):
    """total may be the first row, or one before it."""
    n, C = rows.shape
    for c in range(C):
        total[c] = rows[0, c] if n > 0 else 0
    for i in range(1, n):
        for c in range(C):
            total[c] += rows[i, c]
