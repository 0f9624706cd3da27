"""`python -m minigrad.gradcheck`: the table op x backend x dtype x largest error. Exit status 1 if one is too large."""

import argparse
import json
import sys

from minigrad import device
from minigrad.gradcheck import table


def main(argv=None):
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m minigrad.gradcheck",
        description="Check every operation's gradient: float64 against finite differences, float32 against float64.",
    )
    parser.add_argument("--op", metavar="NAME", help="check this operation alone")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON too")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the table as a heat map too")
    parser.add_argument("--device", choices=("cpu", "cuda", "cuda-sim"), default="cpu", help="where to compute")
    args = parser.parse_args(argv)
    try:
        device.require(args.device)
        rows = table.rows(args.op, args.device)
    except (ValueError, device.DeviceError) as error:
        parser.error(str(error))
    print(table.text(rows))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump([row._asdict() for row in rows], file, indent=1)
    if args.plot:
        table.plot(rows, args.plot)
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(f"\n{problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
