"""The picture of train_step.json: python benchmarks/plot.py benchmarks/results/train_step.json"""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

import matplotlib

from kernels.system import cli
from kernels.system.errors import UserError
from kernels.system.files import writing

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(path):
    """A bar for each case, our time over PyTorch's better mode, into the .png beside the .json. Returns its path."""
    report = json.loads(Path(path).read_text())
    rows = [row for row in report["rows"] if row["ratio"]][::-1]
    names = [f"{row['case']}, {row['dtype']}" for row in rows]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.45 * len(rows)), layout="constrained")
    bars = axes.barh(names, [row["ratio"] for row in rows], color="tab:blue")
    axes.bar_label(bars, [f"{row['ratio']:.2f}" for row in rows], padding=3)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlim(0, max(1.1, 1.1 * max(row["ratio"] for row in rows)))
    axes.set_xlabel("time of a training step over PyTorch's (its better mode); less is faster")
    about = report["machine"]
    axes.set_title(f"{about['processor']}, {about['threads']} threads", fontsize=10)
    with writing(Path(path).with_suffix(".png")) as file:
        figure.savefig(file, format="png", dpi=120)
    return Path(path).with_suffix(".png")


@cli.command_line("plot.py")
def main():
    parser = cli.Parser(prog="plot.py", description=__doc__.split("\n")[0])
    parser.add_argument("results", metavar="train_step.json", help="what `make bench` has written")
    path = parser.parse_args().results
    try:
        print(draw(path))
    except (ValueError, KeyError, TypeError):  # no JSON, or another file's
        raise UserError(f"{path} is not a train_step.json as `make bench` writes it") from None


if __name__ == "__main__":
    sys.exit(main())
