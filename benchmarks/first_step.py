"""Time from the start of the default run to the end of its first step, with empty and with full caches.

    python benchmarks/first_step.py [--root ANOTHER_CHECKOUT] [--repeat 3]

Seconds by the clock until the first step's line appears, and by the processors, compiling processes included, until the
run ends after it. The fastest of several starts is reported.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # else `import kernels` finds benchmarks/kernels.py

from kernels.system import cli
from kernels.system.errors import UserError


def start(root, folder, flags=()):
    """(seconds to the end of step 1, seconds of processors) of a run whose caches and output lie in `folder`."""
    out_dir = tempfile.mkdtemp(dir=folder, prefix="run-")
    command = [sys.executable, "train.py", "--max-steps", "1", "--out-dir", f"{out_dir}/run", *flags]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(root)}
    before, began, seconds = _processor_seconds(), time.perf_counter(), None
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as run,
    ):
        for line in run.stdout:
            if line.startswith("step 1/"):
                seconds = time.perf_counter() - began
        if run.wait() or seconds is None:
            said.seek(0)
            raise UserError(f"train.py in {root} ended with status {run.returncode}: {said.read()[-500:]}")
    return seconds, _processor_seconds() - before


def _processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@cli.command_line("first_step.py")
def main(argv=None):
    parser = cli.Parser(prog="first_step.py", description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout whose train.py is started (default: this)")
    parser.add_argument("--repeat", type=int, default=1, help="starts of each kind")
    args = parser.parse_args(argv)
    if args.repeat < 1:
        parser.error(f"--repeat is {args.repeat}; expected 1 or more")
    if not (args.root / "train.py").is_file():
        parser.error(f"--root is {args.root}, where there is no train.py; expected a checkout")
    starts = {"cold": [], "warm": []}
    for _ in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            for kind in starts.values():
                kind.append(start(args.root.resolve(), folder))
    for kind, caches in (("cold", "empty"), ("warm", "full")):
        wall, cpu = map(min, zip(*starts[kind], strict=True))
        print(f"{kind}, caches {caches}: {wall:6.1f} s to the end of step 1, {cpu:6.1f} s of processors in all")


if __name__ == "__main__":
    sys.exit(main())
