"""`python -m minigrad.accuracy`: function x dtype x backend, the largest errors; status 1 if one is over its bound."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernels.system import cli
from kernels.system.errors import UserError
from minigrad import runtime
from tiny_transformer_np_package_check import interpreter

if TYPE_CHECKING:
    from minigrad.accuracy.functions import Exemption

PROG = cli.program("python -m minigrad.accuracy")


@cli.command_line(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = cli.Parser(
        prog=PROG,
        description="Hold every elementwise function, forward and backward, in every dtype and on every backend, "
        "against mpmath, over the dtype's whole range. Prints a table of the largest errors; the status is 1 if one is "
        "over its bound.",
        epilog="The lines above the table say what its columns are. With 4000 numbers it takes some minutes.",
    )
    parser.add_argument("--function", metavar="NAME", help="check this row alone; a wrong name lists all of them")
    parser.add_argument("--points", type=int, default=4000, metavar="N", help="how many numbers to try; default 4000")
    parser.add_argument(
        "--device", choices=("cpu", "cuda-sim"), default="cuda-sim",
        help="cpu: leave out the CUDA kernels, which need g++; default: cuda-sim",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if importlib.util.find_spec("mpmath") is None:
        raise UserError(f"mpmath, of the extra dev, is not installed: {interpreter()} -m pip install mpmath")
    if args.points < 100:
        raise UserError(f"--points is {args.points}; expected at least 100")
    from minigrad.accuracy import functions

    names = [function.name for function in functions.FUNCTIONS]
    if args.function not in (None, *names):
        raise UserError(f"--function: no function named {args.function!r}; there are {'; '.join(names)}")
    runtime.require(args.device)
    return _print_table(args.points, args.function, args.device == "cuda-sim")


def _print_table(points: int, function: str | None, device: bool) -> int:
    from minigrad.accuracy import functions, table

    print(f"{table.HEADING}\n{table.COLUMNS}")
    problems: list[str] = []
    for row in table.rows(points, function, device):
        print(table.text(row), flush=True)
        problems += row.problems()
    exceptions = [e for e in functions.EXEMPTIONS if function in (None, e.function)]
    if exceptions:
        print("\n* exceptions:")
    for e in exceptions:
        print(f"  {describe(e)}")
    for problem in problems:
        print(f"! {problem}")
    return 1 if problems else 0


def describe(e: "Exemption") -> str:
    """What an exception allows, and why."""
    limits = [f"{e.allowed:g} units"] if e.allowed != 4.0 else []
    limits += [f"{e.steps:,.0f} steps between subnormal numbers"] if e.steps != 1.0 else []
    where = [e.direction, " and ".join(e.formats), *e.backends]
    return f"{e.function} ({', '.join(where)}), up to {' or '.join(limits)}: {e.reason}"


if __name__ == "__main__":
    sys.exit(main())
