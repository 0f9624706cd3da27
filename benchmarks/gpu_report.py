"""Prove and measure the CUDA kernels on a GPU: make gpu-report [ARGS="--device cuda-sim"]

Runs the parity tests of every kernel and the gradient check of every operation on the device, trains a small model
there and on the CPU, and, on a GPU, times every kernel against the card's measured peak and a training step against
PyTorch's. Writes gpu-report.md (text) and gpu-report.json (data); exit status 1 if a check fails. It takes
under 10 minutes. On the simulated device, which needs no GPU, nothing is timed.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # else `import kernels` finds benchmarks/kernels.py

from kernels.system import cli
from kernels.system.errors import DeviceError
from kernels.system.files import writing
from minigrad import runtime
from minigrad.gradient_checking import table

PARITY = [f"tests/kernels/cuda/test_cuda_{name}.py" for name in ("rows", "attention", "loss", "optim")]
LARGEST_LOSS_ERROR = 1e-5  # relative, of a step's loss on the device and on the CPU
TINY = {"n_layer": 2, "n_embd": 64, "n_head": 2, "seq_len": 32, "batch_size": 8, "max_steps": 20, "learning_rate": 3e-3,
        "min_lr": 3e-4, "warmup_steps": 5, "log_interval": 1, "eval_interval": 20, "sample_tokens": 0}  # fmt: skip


def machine(device):
    """The hardware and software of the report."""
    found = {"device": device, "python": platform.python_version(), "date": time.strftime("%Y-%m-%d %H:%M")}
    if device == "cuda":
        from benchmarks import gpu_times

        found.update(gpu_times.card())
    return found


def parity(device):
    """The kernels' tests against the reference in float64, on the device: counts, failures, the largest errors."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tests.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junitxml={file}", *PARITY]
        command += ["-n", "auto"] if device == "cuda-sim" else ["-p", "no:xdist"]
        environment = {**os.environ, "MINIGRAD_TEST_DEVICE": device}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not file.exists():
            return {"problems": [f"pytest did not run: {(run.stdout + run.stderr)[-2000:]}"]}
        return read_results(file.read_text())


def read_results(xml):
    """From pytest's report: {"passed", "skipped", "problems", "errors": {kernel: {dtype: error}}}."""
    passed, skipped, problems, errors = 0, 0, [], {}
    for test in ElementTree.fromstring(xml).iter("testcase"):
        wrong = [*test.findall("failure"), *test.findall("error")]
        problems += [f"{test.get('name')}: {(e.get('message') or '').splitlines()[0]}" for e in wrong]
        is_skipped = test.find("skipped") is not None
        skipped += is_skipped
        passed += not wrong and not is_skipped
        for noted in test.iter("property"):
            _, kernel, dtype = noted.get("name").split()
            row = errors.setdefault(kernel, {})
            row[dtype] = max(row.get(dtype, 0.0), float(noted.get("value")))
    return {"passed": passed, "skipped": skipped, "problems": problems, "errors": errors}


def gradients(device):
    """Every operation's gradient on the device, on both kernel sets, against the numerical gradient and float64."""
    rows = table.rows(device=device)
    return {
        "problems": [row.problem for row in rows if row.problem],
        "errors": {f"{row.op} {row.backend} {row.dtype}": row.error for row in rows},
    }


def training(device):
    """The same 20 steps on the device and on the CPU, through the command line: both losses, step by step."""
    flags = [part for key, value in TINY.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    losses, problems = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for each in ("cpu", device):
            command = [sys.executable, "train.py", *flags, "--device", each, "--out-dir", f"{folder}/{each}"]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if run.returncode:
                return {"problems": [f"train.py --device {each} failed: {run.stderr[-1000:]}"]}
            lines = map(json.loads, Path(folder, each, "metrics.jsonl").read_text().splitlines())
            losses[each] = [row["loss"] for row in lines if row["kind"] == "train"]
    error = max(abs(a / b - 1.0) for a, b in zip(losses[device], losses["cpu"], strict=True))
    if not error <= LARGEST_LOSS_ERROR:
        problems.append(f"losses differ by {error:.2g}, allowed {LARGEST_LOSS_ERROR:.0e}")
    return {"problems": problems, "losses": losses, "largest_error": error}


def markdown(report):
    """The report as Markdown."""
    about = report["machine"]
    problems = [f"{name}: {line}" for name, part in report.items() for line in part.get("problems", ())]
    lines = ["# GPU report", "", ", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["**Something is wrong:**", "", *(f"- {line}" for line in problems)] if problems else ["All checks hold."]
    tests, checked, run = report["parity"], report["gradients"], report["training"]
    if "errors" in tests:
        dtypes = ("float32", "float64", "float16", "bfloat16")
        lines += ["", "## Every kernel against the reference in float64", "",
                  f"{tests['passed']} tests passed, {len(tests['problems'])} failed, {tests['skipped']} skipped. "
                  "Largest difference over the largest magnitude expected:", "",
                  f"| kernel | {' | '.join(dtypes)} |", "|---|" + "---|" * len(dtypes)]  # fmt: skip
        for kernel, found in sorted(tests["errors"].items()):
            cells = (f"{found[dtype]:.1e}" if dtype in found else "" for dtype in dtypes)
            lines.append(f"| `{kernel}` | {' | '.join(cells)} |")
    largest = {}
    for name, error in checked["errors"].items():
        dtype = name.split()[-1]
        largest[dtype] = max(largest.get(dtype, 0.0), error)
    worst = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in largest.items())
    counts = f"{len(checked['errors'])} checks, {len(checked['problems'])} failed"
    lines += ["", "## Gradients", "", f"{counts}. Largest error: {worst}."]
    if "losses" in run:
        ours, cpu = run["losses"][about["device"]], run["losses"]["cpu"]
        lines += ["", f"## {len(cpu)} steps of training, compared with the CPU", "",
                  f"Losses from {cpu[0]:.6f} to {cpu[-1]:.6f}; there {ours[0]:.6f} to {ours[-1]:.6f}. "
                  f"Largest relative difference of a step: {run['largest_error']:.1e}."]  # fmt: skip
    if "kernels" in report:
        from benchmarks import gpu_times

        lines += gpu_times.markdown(report["kernels"], report["step"])
    else:
        lines += ["", "Nothing was timed: the simulated device is no GPU."]
    return "\n".join(lines) + "\n"


@cli.command_line("gpu_report.py")
def main(argv=None):
    """Returns the exit status."""
    parser = cli.Parser(prog="make gpu-report", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cuda-sim"), default="cuda")
    parser.add_argument("--out-dir", type=Path, default=ROOT, help="where to write gpu-report.md and .json")
    args = parser.parse_args(argv)
    try:
        runtime.configure(args.device)
    except DeviceError as error:
        print(f"{error}; this report: make gpu-report ARGS='--device cuda-sim'", file=sys.stderr)
        return 2
    args.out_dir.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(args.device)}
    parts = {"parity": parity, "gradients": gradients, "training": training}
    if args.device == "cuda":
        from benchmarks import gpu_times

        parts.update(kernels=gpu_times.kernel_times, step=gpu_times.step)
    for name, part in parts.items():
        with said(name):
            report[name] = part(args.device)
    for name, text in (("json", json.dumps(report, indent=1) + "\n"), ("md", markdown(report))):
        with writing(args.out_dir / f"gpu-report.{name}") as file:
            file.write(text.encode())
    problems = sum(len(part.get("problems", ())) for part in report.values())
    print(f"{problems or 'no'} problems; wrote {args.out_dir / 'gpu-report.md'} and .json")
    return 1 if problems else 0


@contextlib.contextmanager
def said(name):
    """Print a line when a part begins, and its seconds when it ends."""
    print(f"{name:<10}", end=" ", flush=True)
    started = time.perf_counter()
    yield
    print(f"{time.perf_counter() - started:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
