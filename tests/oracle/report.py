"""A table of PyTorch's samples: for every operator, how its calls ended in minigrad.

python tests/oracle/report.py [--op softmax] [--dtype float32] [--at-most 20] [--all-failures]
"""

import argparse
import collections
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2]))

import opinfo
from outcomes import AMBIGUOUS, EQUAL, OUTCOMES

DTYPES = (*opinfo.FLOATS, "float16", "int64")


def failures(found):
    """(call, outcome) of the first call of each kind that is not equal."""
    first = {}
    for call, outcome in found:
        if outcome.kind not in (EQUAL, AMBIGUOUS):
            first.setdefault((outcome.kind, outcome.detail.split(" at ")[0][:40]), (call, outcome))
    return sorted(first.values(), key=lambda failure: -OUTCOMES.index(failure[1].kind))


def share(counts):
    """The part of the calls that is equal, without those that the table of ambiguous calls refuses."""
    counted = sum(counts.values()) - counts[AMBIGUOUS]
    return counts[EQUAL] / counted if counted else 1.0


def line(what, counts):
    return f"{what:48.48}" + "".join(f"{counts[kind] or '':>10}" for kind in OUTCOMES) + f"{share(counts):9.1%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", help="the name in PyTorch's table; may be repeated")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: float64 and float32")
    parser.add_argument("--at-most", type=int, help="calls of each operator; default: all")
    parser.add_argument("--all-failures", action="store_true", help="each kind of failure, not the first alone")
    options = parser.parse_args()
    total = collections.Counter()
    print(" " * 48 + "".join(f"{kind:>10}" for kind in OUTCOMES) + "    equal")
    for entry in opinfo.entries(options.op or opinfo.OPERATORS):
        for dtype in options.dtype or opinfo.FLOATS:
            found = list(opinfo.outcomes_of(entry, dtype, options.at_most))
            counts = collections.Counter(outcome.kind for _, outcome in found)
            total += counts
            if found:
                print(line(f"{opinfo.title(entry)} {dtype}", counts), flush=True)
            for call, outcome in failures(found)[: None if options.all_failures else 1]:
                print(f"    {outcome.kind}: {call}\n        {outcome.detail}")
    print(line("all", total))


if __name__ == "__main__":
    main()
