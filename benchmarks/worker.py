"""One side of a comparison in a process of its own: it builds the model and takes steps on request.

python -m benchmarks.worker --side minigrad --case small: for each number on stdin takes that many steps, and answers
with a line of JSON, {"seconds": [...], "faults": [...], "loss": ..., "bytes": ...}. bytes: the most memory that these
steps held, beyond what the process had after it warmed up on a tiny model.
"""

import contextlib
import ctypes
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import step_cases
from kernels.system import cli

SIDES = ("minigrad", "eager", "compiled")
PEAK = "peak"  # the side that measures the machine's peak meanwhile


def trainer_on_batch(config, training, ids, targets):
    """A Trainer that gets this same batch in every step. Call `minigrad.runtime.configure` before."""
    from minigrad import random
    from tiny_transformer_np.model import TransformerLM
    from tiny_transformer_np.training import TextDataset, Trainer

    random.seek(0)
    dataset = TextDataset(np.zeros(2 * training.seq_len, np.int64), None, training.seq_len)
    dataset.batch = lambda number, batch_size, seed: (ids, targets)
    return Trainer(TransformerLM(config), dataset, None, training)


def make_step(side, dtype, threads):
    """make(config, training) -> a function that takes a step of that model and returns the loss."""
    if side == "minigrad":
        from minigrad import runtime

        runtime.configure(threads=threads)
        if runtime.set_matmul_precision(dtype) != dtype:
            sys.exit(f"this processor does not multiply {dtype} numbers")

        def make(config, training):
            trainer = trainer_on_batch(config, training, *step_cases.batch(config, training))
            return lambda: trainer.train_step()[0]
    elif side == PEAK:
        import numba

        from benchmarks import peak_rates

        numba.set_num_threads(threads)
        if peak_rates.operations(dtype, threads) is None:
            sys.exit(f"this processor has no instruction for {dtype} products")

        run = peak_rates.burst(dtype)

        def make(config, training):
            return run
    else:
        import torch

        from benchmarks import torch_model

        torch.set_num_threads(threads)
        torch.manual_seed(0)

        def make(config, training):
            ids, targets = step_cases.batch(config, training)
            options = {"compiled": side == "compiled", "autocast": dtype == "bfloat16"}
            return torch_model.make_step(config, training, ids, targets, **options)

    return make


class Memory:
    """Resident memory of this process: `used` since it was made, `peak` since the last `reset`."""

    def __init__(self):
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self.base = self._read("VmRSS")

    def _read(self, key):
        return next(1024 * int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(key))

    def reset(self):
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self):
        return self._read("VmHWM") - self.base


@cli.command_line("worker.py")
def main():
    parser = cli.Parser(prog="worker.py", description=__doc__.split("\n")[0])
    parser.add_argument("--side", choices=(*SIDES, PEAK), required=True)
    parser.add_argument("--case", choices=step_cases.CASES, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--changed", type=json.loads, default={}, help="JSON of settings unlike the case's")
    args = parser.parse_args()
    make = make_step(args.side, args.dtype, args.threads)
    for _ in range(2):
        make(*step_cases.configs("tiny", args.dtype))()
    memory = Memory()
    step = make(*step_cases.configs(args.case, args.dtype, **args.changed))
    for line in sys.stdin:
        seconds, faults = [], []
        memory.reset()
        for _ in range(int(line)):
            before, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - started)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        answer = {"seconds": seconds, "faults": faults, "loss": float(loss), "bytes": memory.peak()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
