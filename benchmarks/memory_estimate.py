"""The estimated and the measured memory of runs: python benchmarks/memory_estimate.py [CASE ...]

Each case runs in a process of its own, which builds the model, takes three steps, evaluates, saves a checkpoint and
draws the picture, as train.py does; the figure is its peak resident memory.
"""

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import step_cases
from kernels.system import cli

NAMES = [name for name in step_cases.CASES if name != "tiny"]
N_TOKENS = 40_000, 10_000
_FIRST = 0x10000  # first code point of the characters of a large vocabulary


def measured(name, dtype, kernel_set="fast"):
    """{"estimate": bytes, "peak": bytes, "kinds": {kind: bytes}} of a case, run in a process of its own."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.memory_estimate", "--child", name, dtype, kernel_set]
    return json.loads(subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


def peak_resident():
    """The most bytes of this process that were in memory at once. POSIX.

    Under Linux this is not ru_maxrss, which begins at the peak of the process that started this one.
    """
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_case(name, dtype, kernel_set):
    """Train a case in this process, in the way train.py does, and print what `measured` returns."""
    import numpy as np

    import kernels
    from minigrad import random, runtime
    from tiny_transformer_np import CharTokenizer, TransformerLM
    from tiny_transformer_np.training import TextDataset, Trainer, memory
    from tiny_transformer_np.training.run_folder import Run

    model, training = step_cases.configs(name, dtype)
    training = dataclasses.replace(
        training, dtype=dtype, kernels=kernel_set, max_steps=3, eval_interval=3, sample_tokens=3, stride=0
    )
    kernels.select(kernel_set)
    runtime.configure(threads=2)
    if runtime.set_matmul_precision(dtype) != dtype:
        sys.exit(f"this processor does not multiply {dtype} numbers")
    estimate = memory.of_run(model, training, N_TOKENS)
    tokenizer = CharTokenizer("".join(map(chr, range(_FIRST, _FIRST + model.vocab_size))))
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, sum(N_TOKENS), np.uint16)
    train, val = (TextDataset(part, tokenizer, training.seq_len) for part in np.split(tokens, N_TOKENS[:1]))
    random.seek(0)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(TransformerLM(model), train, val, training, Run(folder)).train()
    found = {"estimate": estimate.total, "peak": peak_resident(), "kinds": estimate.held | estimate.passing}
    print(json.dumps(found))


@cli.command_line("memory_estimate.py")
def main():
    """Print a line for each case and dtype."""
    from kernels.cpu.micro_kernel_bfloat16 import HAS_BFLOAT16

    parser = cli.Parser(prog="memory_estimate.py", description=__doc__.split("\n")[0])
    parser.add_argument("names", metavar="CASE", nargs="*", help=f"{', '.join(NAMES)}; all by default")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no case {unknown[0]}; expected some of {', '.join(NAMES)}")
    print(f"{'case':<18}{'kernels':<11}{'dtype':<10}{'estimate':>11}{'measured':>11}{'ratio':>7}")
    rows = [(name, "fast", dtype) for name, dtype in itertools.product(names, ("float32", "bfloat16"))]
    rows += [("small", "reference", dtype) for dtype in ("float32", "bfloat16")]
    for name, kernel_set, dtype in rows:
        line = f"{name:<18}{kernel_set:<11}{dtype:<10}"
        if kernel_set == "fast" and dtype == "bfloat16" and not HAS_BFLOAT16:
            print(f"{line}  this processor has no instruction for it")
            continue
        found = measured(name, dtype, kernel_set)
        sizes = (f"{found[key] / 1e6:>8,.0f} MB" for key in ("estimate", "peak"))
        print(f"{line}{''.join(sizes)}{found['estimate'] / found['peak']:>7.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_case(*sys.argv[2:])
    else:
        sys.exit(main())
