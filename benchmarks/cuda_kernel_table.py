"""The table of CUDA kernels in docs/gpu.md: python benchmarks/cuda_kernel_table.py writes it, without a GPU.

Registers and spills are those of cudagates/budgets.json, which CI proves; bytes are counted on the simulated device
in check mode; a card's floor is computed from the peak rates in its data sheet.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # else `import kernels` finds benchmarks/kernels.py

import kernels
from benchmarks.gpu_times import first, moved
from benchmarks.kernel_costs import CASES, GPT2, SMALL, least_bytes
from cudagates import check, expectations
from cudagates.measure import Job
from kernels.cuda import simulated
from kernels.system import cli
from minigrad import runtime

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- kernels: written by benchmarks/cuda_kernel_table.py -->\n", "<!-- end -->\n"
DTYPES = ("float32", "float16")


class Card(NamedTuple):
    """A GPU by its data sheet: bytes a second, and operations a second of products without sparsity."""

    name: str
    arch: int
    bandwidth: float
    float32: float
    float16: float

    def floor(self, nbytes, flops, dtype):
        """The least seconds for these bytes and operations."""
        return max(nbytes / self.bandwidth, flops / getattr(self, dtype))


CARDS = (
    Card("A100", 80, 2039e9, 19.5e12, 312e12),  # 80 GB, SXM
    Card("H100", 90, 3350e9, 67e12, 989e12),  # SXM
    Card("RTX 4090", 89, 1008e9, 82.6e12, 165.2e12),  # sums of float16 products in float32
)


def launches(call):
    """([(path, kernel, macros), ...], bytes of global memory that warps move) of one call on the simulated device."""
    ran, launch = [], simulated.launch

    def noted(path, name, macros, *rest):
        ran.append((path, name, tuple(macros.items())))
        return launch(path, name, macros, *rest)

    simulated.launch, simulated.mode = noted, "check"
    try:
        call()  # compiles; the launches name the source files
        used = [simulated.load(path, dict(macros), "check") for path, macros in {(p, m) for p, _, m in ran}]
        for each in used:
            each.reset_counters()
        ran.clear()
        call()
    finally:
        simulated.launch, simulated.mode = launch, "fast"
    return ran, sum(row.distinct for each in used for row in each.counters() if row.space == "global")


def registers(ran, card, budgets):
    """(registers, bytes spilled) of the kernels launched, on a card: the most of any."""
    keys = {check.key(Job(path, macros, card.arch), name) for path, name, macros in ran}
    rows = [budgets[key][f"sm_{card.arch}"] for key in keys]
    return max(row[0] for row in rows), max(row[1] for row in rows)


def least(case, dtype, full=GPT2, part=256):
    """Least bytes at full size, from a 256th of the tokens or parameters and from two: they grow in proportion."""
    found, T = [], full.N // part
    for B in 1, 2:
        sizes = full._replace(B=B, T=T, P=B * full.P // part)
        args, kernel = on_device(case, sizes, dtype)
        found.append(least_bytes(case, args, kernel(*args)))
    return found[0] + (part - 1) * (found[1] - found[0])


def on_device(case, sizes, dtype):
    """(arguments on the simulated device, the kernel)."""
    args = moved(case.arguments(sizes, np.random.default_rng(0), dtype), runtime.module("cuda-sim"))
    return args, getattr(kernels.for_array(first(args)), case.name)


def row(case, dtype, budgets, sizes=SMALL, full=GPT2):
    """A line of the table."""
    dtype = np.dtype(dtype)
    args, kernel = on_device(case, sizes, dtype)
    ran, nbytes = launches(lambda: kernel(*args))
    used = [registers(ran, card, budgets) for card in CARDS] if ran else [("", 0)]
    ratio = "" if case.blas else f"{nbytes / least_bytes(case, args, kernel(*args)):.2f}"
    most = least(case, dtype, full)
    floors = (f"{1e6 * card.floor(most, case.flops(full), dtype.name):.0f}" for card in CARDS)
    return (f"| `{case.name}` | {dtype} | {' / '.join(str(n) for n, _ in used)} | "
            f"{max(spilled for _, spilled in used)} | {ratio} | {' / '.join(floors)} |")  # fmt: skip


def table(cases=CASES):
    """The lines between the marks."""
    budgets, names = expectations.read_budgets((13, 0)), " / ".join(card.name for card in CARDS)
    yield f"| kernel | dtype | registers, {names} | bytes spilled | bytes over least | floor in us, {names} |"
    yield "|---|---|---|---|---|---|"
    for case in cases:
        for dtype in DTYPES:
            yield row(case, dtype, budgets)


def in_page():
    """The lines that docs/gpu.md has now."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].splitlines()


@cli.command_line("cuda_kernel_table.py")
def main():
    cli.Parser(prog="cuda_kernel_table.py", description=__doc__.split("\n")[0]).parse_args()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    lines = []
    for line in table():
        print(line, flush=True)
        lines.append(line + "\n")
    PAGE.write_text(before + BEGIN + "".join(lines) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
