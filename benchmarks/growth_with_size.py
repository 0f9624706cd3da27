"""How time and memory of a step grow with each size of the model: python benchmarks/growth_with_size.py

One size of the baby case after another is doubled, and the growth of the time is compared with that of the
operations. Memory is measured for contexts of several lengths and fitted by a + b * T. With more than one
thread, the step is timed on one and on all as well.
"""

import os
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import machine, step_cases
from benchmarks.train_step import Side, alternate
from kernels.system import cli
from tiny_transformer_np.training.memory import num_parameters

BASE = "baby"
DOUBLED = {
    "B": {"batch_size": 32},
    "T": {"seq_len": 512},
    "C": {"n_embd": 768, "n_head": 12},  # heads keep their size
    "n_layer": {"n_layer": 12},
    "V": {"vocab_size": 130},
}
CONTEXTS = (128, 256, 512, 1024, 2048)  # of batches of two


def growth(name, threads, rounds):
    """A doubled size beside the base: {"size", "seconds", "time", "flops", "ratio"}."""
    sides = [Side("minigrad", BASE, "float32", threads, changed) for changed in ({}, DOUBLED[name])]
    before, after = (found["seconds"] for found in alternate(sides, rounds))
    flops = step_cases.flops(*step_cases.configs(BASE, **DOUBLED[name])) / step_cases.flops(*step_cases.configs(BASE))
    return {"size": name, "seconds": [before, after], "time": after / before, "flops": flops,
            "ratio": after / before / flops}  # fmt: skip


def memory(threads):
    """[(T, bytes beyond 16 a parameter)] and the largest distance from a + b * T, as a part of what is measured."""
    found = []
    for T in CONTEXTS:
        changed = {"batch_size": 2, "seq_len": T}
        (used,) = alternate([Side("minigrad", BASE, "float32", threads, changed)], 1)
        found.append((T, used["bytes"] - 16 * num_parameters(step_cases.configs(BASE, **changed)[0])))
    T, used = np.array(found, np.float64).T
    b, a = np.polyfit(T, used, 1, w=1 / used)  # the fit minimises relative errors
    return found, float(np.abs((a + b * T) / used - 1).max())


def threads_gain(threads, rounds):
    """Seconds of the base on one thread and on all of them."""
    return [
        found["seconds"] for found in alternate([Side("minigrad", BASE, "float32", n) for n in (1, threads)], rounds)
    ]


@cli.command_line("growth_with_size.py")
def main():
    parser = cli.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="rounds; base and doubled have a turn in each")
    parser.add_argument("--out-dir", type=Path, help="write scaling.json and .md there too")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if not 1 <= args.threads <= cores or args.rounds < 1:
        parser.error(f"--threads {args.threads} and --rounds {args.rounds}: at least 1, and at most {cores} threads")
    about = machine.describe(args.threads)
    lines = [f"{'doubled':<9}{'from s':>9}{'to s':>9}{'time x':>9}{'FLOPs x':>9}{'ratio':>8}"]
    print(machine.sentence(about), lines[0], sep="\n")
    rows = []
    for name in DOUBLED:
        rows.append(row := growth(name, args.threads, args.rounds))
        lines.append(
            f"{name:<9}{row['seconds'][0]:9.3f}{row['seconds'][1]:9.3f}{row['time']:9.2f}{row['flops']:9.2f}"
            f"{row['ratio']:8.2f}"
        )
        print(lines[-1], flush=True)
    found, distance = memory(args.threads)
    rows.append({"memory": found, "distance": distance})
    lines.append("memory beyond 16 bytes a parameter: " + ", ".join(f"T {T} {used / 1e6:.0f} MB" for T, used in found)
                 + f"; from a + b T at most {distance:.1%}")  # fmt: skip
    print(lines[-1], flush=True)
    if args.threads > 1:
        one, all_of_them = threads_gain(args.threads, args.rounds)
        rows.append({"threads": args.threads, "seconds": [one, all_of_them]})
        lines.append(f"threads   1: {one:.3f} s, {args.threads}: {all_of_them:.3f} s, {one / all_of_them:.2f} x")
        print(lines[-1])
    if args.out_dir:
        machine.write(args.out_dir / "scaling", about, lines, rows)


if __name__ == "__main__":
    sys.exit(main())
