"""Which check catches which seeded bug: `python tests/seeded_bugs/table.py` writes the table into docs/checks.md.

A bug is caught by gradcheck (float64, finite differences), by the comparison of float32 with float64, by parity
of the fast with the reference kernels, or by the optimizers' reference; the table names all that catch it.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from seeded import CHECKS, caught_by
from seeded_backward_functions import BACKWARD_FUNCTIONS
from seeded_kernels import KERNELS

from kernels.system import cli

BUGS = [*BACKWARD_FUNCTIONS, *KERNELS]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "checks.md"
_BEGIN, _END = "<!-- seeded bugs: written by tests/seeded_bugs/table.py -->\n", "<!-- end -->\n"


def markdown(bugs=BUGS, caught=caught_by):
    """The table's lines: a row for each bug."""
    lines = ["| seeded bug | in | caught by | likely cause named |", "|---|---|---|---|"]
    for bug in bugs:
        found = caught(bug)
        cause = found.get("gradcheck", ("", None))[1] or ""
        if cause and bug.cause and cause != bug.cause:
            cause += f" (it is: {bug.cause})"
        lines.append(f"| {bug.name} | `{bug.where}` | {', '.join(found) or '**missed**'} | {cause} |")
    return lines


def summary(bugs=BUGS, caught=caught_by):
    """The table in a few lines: how many bugs each check notices, and how many causes are named rightly."""
    found = [caught(bug) for bug in bugs]
    noticed = Counter(check for each in found for check in each)
    told = [(bug.cause, each["gradcheck"][1]) for bug, each in zip(bugs, found, strict=True)
            if bug.cause and "gradcheck" in each]  # fmt: skip
    return [
        "| check | seeded bugs that it notices |", "|---|---|",
        *(f"| {check} | {noticed[check]} of {len(bugs)} |" for check in CHECKS),
        f"| any of them | {sum(map(bool, found))} of {len(bugs)} |", "",
        f"Of the {len(told)} that gradcheck notices, it names the likely cause of "
        f"{sum(cause == named for cause, named in told)} rightly.",
    ]  # fmt: skip


def for_page(caught=caught_by):
    """The text between the two marks of the page, as it should be."""
    folded = ["", "<details><summary>All of them, and which check catches which</summary>", ""]
    return "\n".join([*summary(caught=caught), *folded, *markdown(caught=caught), "", "</details>", ""])


def in_page():
    """The text between the two marks of the page, as it is."""
    return PAGE.read_text(encoding="utf-8").split(_BEGIN)[1].split(_END)[0]


if __name__ == "__main__":
    cli.Parser(description=__doc__.split("\n")[0]).parse_args()
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    PAGE.write_text(before + _BEGIN + for_page() + _END + rest.split(_END)[1], encoding="utf-8")
