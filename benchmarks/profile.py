"""Where the time of a training step goes, operation by operation: python benchmarks/profile.py --case small"""

import contextlib
import inspect
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import machine, step_cases
from benchmarks.worker import trainer_on_batch
from kernels.system import cli
from minigrad import functional, graph, runtime
from minigrad.optim import AdamW


class Profile:
    """Seconds by operation and direction, {("gelu", "backward"): 0.1}; inner operations count for the outer."""

    def __init__(self):
        self.seconds, self.calls, self._inside = defaultdict(float), defaultdict(int), False

    def timed(self, function, key):
        """The function, with its time added to the Profile under key, or key(arguments)."""

        def call(*args, **kwargs):
            if self._inside:
                return function(*args, **kwargs)
            self._inside, started = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside, name = False, key(*args) if callable(key) else key
                self.seconds[name] += time.perf_counter() - started
                self.calls[name] += 1

        return call

    @contextlib.contextmanager
    def running(self):
        """Inside, every operation, every backward function and the optimizer are timed."""
        operations = [name for name, _ in inspect.getmembers(functional, inspect.isfunction) if name[0] != "_"]
        places = [(functional, name, (name, "forward")) for name in operations]
        places += [(graph, "_perform", lambda node, *_: (node.op, "backward"))]
        places += [(AdamW, "step", ("optimizer", "step")), (AdamW, "grad_norm", ("optimizer", "norm"))]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for (owner, name, key), (_, _, function) in zip(places, before, strict=True):
            setattr(owner, name, self.timed(function, key))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)


def profile(case, steps, threads, dtype="float32"):
    """(Profile over so many steps, seconds of all of them)."""
    runtime.configure(threads=threads)
    runtime.set_matmul_precision(dtype)
    config, training = step_cases.configs(case, dtype)
    trainer, found = trainer_on_batch(config, training, *step_cases.batch(config, training)), Profile()
    for _ in range(3):
        trainer.train_step()
    with found.running():
        started = time.perf_counter()
        for _ in range(steps):
            trainer.train_step()
        total = time.perf_counter() - started
    return found, total


def table(found, total, steps):
    """Lines of text: the most expensive operation first; at the end the time outside all operations."""
    yield f"{'operation':<34} {'calls':>6} {'ms':>9} {'share':>7}"
    rest = total - sum(found.seconds.values())
    rows = sorted(found.seconds.items(), key=lambda item: -item[1]) + [(("everything else", ""), rest)]
    for (name, direction), seconds in rows:
        calls = found.calls.get((name, direction), 0) / steps
        yield f"{name + ' ' + direction:<34} {calls:6.0f} {1e3 * seconds / steps:9.3f} {seconds / total:7.1%}"
    yield f"{'a step':<41} {1e3 * total / steps:9.3f}"


@cli.command_line("profile.py")
def main():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--case", choices=step_cases.CASES, default="small")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=0, help="steps to time; 0: some seconds of them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out-dir", type=Path, help="write profile.json and .md there too")
    args = parser.parse_args()
    steps = args.steps
    if not steps:
        steps = max(3, int(3.0 / (profile(args.case, 1, args.threads, args.dtype)[1])))
    found, total = profile(args.case, steps, args.threads, args.dtype)
    lines = [f"{args.case}, {args.dtype}", *table(found, total, steps)]
    print("\n".join(lines))
    if args.out_dir:
        rows = [{"operation": name, "direction": direction, "seconds": seconds / steps}
                for (name, direction), seconds in found.seconds.items()]  # fmt: skip
        machine.write(args.out_dir / "profile", machine.describe(args.threads), lines, rows)


if __name__ == "__main__":
    sys.exit(main())
