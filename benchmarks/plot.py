"""The picture of train_step.json: python benchmarks/plot.py benchmarks/results/train_step.json"""

import json
import sys
from pathlib import Path

import matplotlib

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
    figure.savefig(Path(path).with_suffix(".png"), dpi=120)
    return Path(path).with_suffix(".png")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("give the train_step.json that `make bench` has written", file=sys.stderr)
        sys.exit(2)
    print(draw(sys.argv[1]))
