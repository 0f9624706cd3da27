"""Time and memory of reading metrics.jsonl on resume: python benchmarks/metrics_read.py [ROWS]

A file of that many rows (a million) is written to a temporary folder; a process of its own then opens it as a resume
does, dropping the last tenth, and draws loss.png from it. It prints processor seconds and resident memory.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks.memory_estimate import peak_resident
from kernels.system import cli


def write_rows(path, n):
    """Write a metrics.jsonl like that of a run, with an evaluation after every hundredth step."""
    with open(path, "w", encoding="utf-8") as file:
        for step in range(1, n + 1):
            loss = 1.5 + 3.0 / step**0.5
            file.write(json.dumps({
                "kind": "train", "step": step, "loss": loss, "perplexity": 2.7 * loss, "lr": 1e-3 / (1 + step / n),
                "grad_norm": loss / 3, "tokens_per_second": 1e5 / loss, "elapsed_seconds": step * 0.0123456789,
            }) + "\n")  # fmt: skip
            if step % 100 == 0:
                row = {"kind": "eval", "step": step, "val_loss": loss * 1.1, "val_perplexity": 3.0 * loss}
                file.write(json.dumps(row) + "\n")


def measure(path, last_step):
    """Open the log and draw it, in this process. -> {what: (processor seconds so far, peak resident MB so far)}."""
    from tiny_transformer_np.training.metrics import MetricsLog
    from tiny_transformer_np.training.plots import draw_metrics

    figures = {"imports": _used()}
    log = MetricsLog(path, last_step)
    figures["read"] = _used()
    draw_metrics(log, path.with_name("loss.png"))
    figures["drawn"] = _used()
    return figures


def _used():
    return time.process_time(), peak_resident() / 1e6


@cli.command_line("metrics_read.py")
def main():
    parser = cli.Parser(prog="metrics_read.py", description=__doc__.split("\n")[0])
    parser.add_argument("rows", metavar="ROWS", type=int, nargs="?", default=1_000_000, help="default: a million")
    parser.add_argument("--measure", metavar="FILE", help="what the process that is measured is started with")
    args = parser.parse_args()
    n = args.rows
    last_step = n - n // 10
    if args.measure:
        print(json.dumps(measure(Path(args.measure), last_step)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        write_rows(path, n)
        size = path.stat().st_size / 1e6
        command = [sys.executable, __file__, str(n), "--measure", str(path)]
        figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print(f"{n:,} rows, {size:.0f} MB")
    print(f"{'':8} {'processor':>12} {'peak memory':>14}")
    before = 0.0
    for name, (seconds, megabytes) in figures.items():
        print(f"{name:8} {seconds - before:10.2f} s {megabytes:11.0f} MB")
        before = seconds


if __name__ == "__main__":
    main()
