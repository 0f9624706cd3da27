"""Time and memory of a training step, ours and PyTorch's: python benchmarks/train_step.py [--case small ...]

Same model, batch, clipping and AdamW (fused) on both sides. Each side is a process of its own, since their thread
settings differ; they alternate, so that other load on the machine affects all. The output has medians, the ratio to
PyTorch's faster mode, and the share of the machine's peak, which another process measures in every round: `peak`
compares medians, `best` our median with the peak's fastest burst.
"""

import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import machine, peak_rates, step_cases
from benchmarks.processes import Child
from benchmarks.worker import PEAK, SIDES
from kernels.system import cli
from tiny_transformer_np.training.memory import num_parameters

ROUND_SECONDS = 2.0  # of one side's turn, about
FULL = (*((name, "float32") for name in step_cases.CASES if name != "tiny"),
        *((name, "bfloat16") for name in ("baby", "gpt2-124m", "wide-vocabulary", "long")))  # fmt: skip


class Side(Child):
    """A worker process and its measurements."""

    def __init__(self, side, case, dtype, threads, changed=None):
        super().__init__("benchmarks.worker", "--side", side, "--case", case, "--dtype", dtype,
                         "--threads", threads, "--changed", json.dumps(changed or {}))  # fmt: skip
        self.seconds, self.faults, self.bytes = [], [], 0

    def turn(self, steps):
        """One turn, whose measurements are kept."""
        if answer := self.ask(steps):
            self.seconds += answer["seconds"]
            self.faults += answer["faults"]
            self.bytes = max(self.bytes, answer["bytes"])


def alternate(sides, rounds):
    """Give each side a turn in every round -> {"seconds", "fastest", "faults", "bytes"} of each; None if it ended.

    seconds, faults: medians.
    """
    steps = {}
    for side in sides:
        if side.ask(2):  # compiles, and faults in memory
            steps[side] = max(1, round(ROUND_SECONDS / max(min(side.ask(2)["seconds"]), 1e-3)))
    for _ in range(rounds):
        for side in steps:
            side.turn(steps[side])
    for side in steps:
        side.close()
    return [
        {
            "seconds": statistics.median(side.seconds), "fastest": min(side.seconds),
            "faults": statistics.median(side.faults), "bytes": side.bytes,
        }
        if side in steps else None
        for side in sides
    ]  # fmt: skip


def compare(case, dtype, threads, rounds, sides=SIDES):
    """{side: {"seconds", "fastest", "faults", "bytes"}}; without the sides that fail to run here."""
    sides = (*sides, PEAK)
    found = alternate([Side(name, case, dtype, threads) for name in sides], rounds)
    return {name: each for name, each in zip(sides, found, strict=True) if each}


def row(case, dtype, found, threads):
    """The results of a case: times, ratios, shares of the peak, and memory beyond 16 bytes a parameter."""
    config, training = step_cases.configs(case)
    limit, found = found.get(PEAK), {name: each for name, each in found.items() if name != PEAK}
    ours, peers = found.get("minigrad"), {name: each for name, each in found.items() if name != "minigrad"}
    best = min(peers, key=lambda name: peers[name]["seconds"], default=None)
    work = step_cases.flops(config, training) / (peak_rates.operations(dtype, threads) or 1)  # in bursts
    extra = {name: each["bytes"] - 16 * num_parameters(config) for name, each in found.items()}
    return {
        "case": case, "dtype": dtype, "seconds": {name: each["seconds"] for name, each in found.items()}, "best": best,
        "ratio": ours["seconds"] / peers[best]["seconds"] if ours and best else None,
        "share": work / ours["seconds"] * limit["seconds"] if ours and limit else None,
        "share_of_best": work / ours["seconds"] * limit["fastest"] if ours and limit else None,
        "faults": ours["faults"] if ours else None, "bytes": extra,
        "memory_ratio": extra["minigrad"] / min(extra[name] for name in peers) if ours and best else None,
    }  # fmt: skip


HEAD = (
    f"{'case':<16} {'dtype':<9}"
    + "".join(f"{name:>10}" for name in SIDES)
    + "   ratio   peak   best  faults     MB  ratio"
)


def line(row):
    """A row as a line of text; times in ms."""

    def number(value, form):
        return "-" if value is None else format(value, form)

    times = "".join(f"{number(row['seconds'].get(n) and 1e3 * row['seconds'][n], '.1f'):>10}" for n in SIDES)
    memory = row["bytes"].get("minigrad")
    return (f"{row['case']:<16} {row['dtype']:<9}{times}{number(row['ratio'], '.3f'):>8}"
            f"{number(row['share'], '.0%'):>7}{number(row['share_of_best'], '.0%'):>7}{number(row['faults'], '.0f'):>8}"
            f"{number(memory and memory / 1e6, '.0f'):>7}{number(row['memory_ratio'], '.2f'):>7}")  # fmt: skip


@cli.command_line("train_step.py")
def main():
    parser = cli.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs="+", choices=[name for name in step_cases.CASES if name != "tiny"])
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="what to compare; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; each side has one turn in each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out-dir", type=Path, help="write train_step.json and .md there too")
    args = parser.parse_args()
    wanted = [(case, dtype) for case, dtype in FULL
              if case in (args.case or [case]) and dtype in (args.dtype or [dtype])]  # fmt: skip
    about = machine.describe(args.threads)
    print(machine.sentence(about), HEAD, sep="\n")
    rows = []
    for case, dtype in wanted:
        rows.append(row(case, dtype, compare(case, dtype, args.threads, args.rounds, args.sides), args.threads))
        print(line(rows[-1]), flush=True)
    if args.out_dir:
        machine.write(args.out_dir / "train_step", about, [HEAD, *map(line, rows)], rows)


if __name__ == "__main__":
    sys.exit(main())
