"""Which check catches which seeded bug, as a table in Markdown: `python tests/seeded_bugs/table.py`.

A bug is caught by gradcheck (float64, finite differences), by the comparison of float32 with float64, by parity
of the fast with the reference kernels, or by the optimizers' oracle; all that notice it are named.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from seeded import caught_by
from seeded_kernels import KERNELS
from seeded_rules import RULES

BUGS = [*RULES, *KERNELS]


def markdown(bugs=BUGS):
    """The table's lines."""
    lines = ["| seeded bug | in | caught by | likely cause named |", "|---|---|---|---|"]
    for bug in bugs:
        found = caught_by(bug)
        cause = found.get("gradcheck", ("", None))[1] or ""
        if cause and bug.cause and cause != bug.cause:
            cause += f" (it is: {bug.cause})"
        lines.append(f"| {bug.name} | `{bug.where}` | {', '.join(found) or '**missed**'} | {cause} |")
    return lines


if __name__ == "__main__":
    print("\n".join(markdown()))
