"""`python -m minigrad.accuracy`: function x dtype x backend, the largest errors; status 1 if one is over its bound."""

import importlib.util
import sys

from kernels.system import cli, streams
from kernels.system.errors import UserError
from minigrad import runtime
from tiny_transformer_np_package_check import interpreter

PROG = cli.program("python -m minigrad.accuracy")


@cli.command_line(PROG)
def main(argv=None):
    """Print the table; returns the exit status."""
    parser = cli.Parser(
        prog=PROG,
        description="Hold every elementwise function, forward and backward, against mpmath, over its dtype's range.",
        epilog="Errors are in units of rounding: the result is f(x (1 + d)) (1 + e) with |d|, |e| at most so many.",
    )
    parser.add_argument("--function", metavar="NAME", help="check this function alone, as the table names it")
    parser.add_argument("--points", type=int, default=4000, metavar="N", help="numbers a function")
    parser.add_argument("--device", choices=("cpu", "cuda-sim"), default="cuda-sim", help="cpu: no simulated device")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("mpmath") is None:
        raise UserError(f"mpmath is not installed; {interpreter()} -m pip install mpmath installs it")
    if args.points < 100:
        raise UserError(f"--points is {args.points}; expected at least 100")
    from minigrad.accuracy import functions, table

    names = [function.name for function in functions.FUNCTIONS]
    if args.function not in (None, *names):
        raise UserError(f"--function: no function named {args.function!r}; there are {', '.join(names)}")
    runtime.require(args.device)
    return _print_table(table, functions.EXEMPTIONS, args)


def _print_table(table, exemptions, args):
    print(table.HEADING)
    problems = []
    for row in table.rows(args.points, args.function, args.device == "cuda-sim"):
        print(table.text(row), flush=True)
        problems += row.problems()
    for e in exemptions:
        allowed = f"up to {e.allowed:g} units, {e.steps:g} steps between subnormal numbers"
        print(f"* {e.function}, {e.direction}, {' and '.join(e.formats)}: {allowed}: {e.reason}")
    for problem in problems:
        streams.note(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
