"""`python -m minigrad.gradient_checking`: the table op x backend x dtype x largest error; status 1 if one is large."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kernels.system import cli, streams
from kernels.system.errors import UserError
from kernels.system.files import require_place, writing
from minigrad import runtime
from minigrad.gradient_checking import table

PROG = cli.program("python -m minigrad.gradient_checking")


@cli.command_line(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = cli.Parser(
        prog=PROG,
        description="Check the gradients of every operation on both kernel sets, and print the largest error of each: "
        f"in float64 against the numerical gradient (allowed: {table.LIMITS['float64']:.0e}), in float32 against the "
        f"gradient in float64 (allowed: {table.LIMITS['float32']:.0e}). A larger error is marked with ! and explained, "
        "and the status is 1. For functions of your own: minigrad.gradcheck, docs/gradcheck.md.",
    )
    parser.add_argument("--op", metavar="NAME", help="check this operation alone; a wrong name lists all of them")
    parser.add_argument("--json", type=cli.path, metavar="FILE", help="write the rows as JSON too")
    parser.add_argument(
        "--plot",
        type=cli.path,
        metavar="FILE",
        help="draw the table as a heat map too; .svg and .pdf choose the format, else PNG",
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "cuda-sim"), default="cpu", help="where to compute")
    args = parser.parse_args(argv)
    for path in filter(None, (args.json, args.plot)):
        require_place(path)
    runtime.require(args.device)
    try:
        rows = table.rows(args.op, args.device)
    except ValueError as error:
        raise UserError(f"--op: {error}") from None
    print(table.text(rows))
    if args.json:
        with writing(args.json) as file:
            file.write(json.dumps([row._asdict() for row in rows], indent=1).encode())
    if args.plot:
        with writing(args.plot) as file:
            table.plot(rows, file, Path(args.plot).suffix[1:])
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        streams.note(f"\n{problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
