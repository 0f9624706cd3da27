"""Time of each CPU kernel against PyTorch's and against the machine's peak: python benchmarks/kernels.py

The two sides alternate in one process. The floor is the longer of least bytes over the bandwidth of a copy and
operations over the peak of multiply-adds, both measured in the same run.
"""

import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else `import kernels` finds benchmarks/kernels.py

from benchmarks import machine, peak_rates
from benchmarks.kernel_costs import CASES, least_bytes
from kernels import backend
from kernels.spec import Sizes
from kernels.system import cli
from minigrad import runtime

cpu = backend("cpu")

SIZES = Sizes(B=8, T=256, C=384, H=6, V=4096, P=1 << 24)  # larger than the caches of one core
ROUNDS = 15


def peers(torch):
    """{kernel: PyTorch's function of the same arguments, as tensors}, where PyTorch has it in one call."""
    F = torch.nn.functional

    def norm_backward(dout, x, weight, mean, rstd, dresidual):
        shape = [x.shape[-1]]
        bias = torch.zeros_like(weight)
        mask = [True, True, True]
        dx, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
            dout, x, shape, mean.reshape(-1, 1), rstd.reshape(-1, 1), weight, bias, mask
        )
        return dx + dresidual, dweight, dbias

    return {
        "linear_forward": lambda x, w, b: F.linear(x, w, b),
        "linear_backward": lambda dout, x, w, b: (dout @ w, dout.T @ x, dout.sum(0)),
        "layernorm_forward": lambda x, w, b, eps: F.layer_norm(x, [x.shape[-1]], w, b, eps),
        "layernorm_backward": norm_backward,
        "gelu_forward": lambda x, form: F.gelu(x, approximate=form),
        "gelu_backward": lambda dout, x, form: torch.ops.aten.gelu_backward(dout, x, approximate=form),
        "embedding_forward": lambda w, ids: F.embedding(ids, w),
        "embedding_backward": lambda dout, ids, n: torch.ops.aten.embedding_dense_backward(dout, ids, n, -1, False),
        "dropout_forward": lambda x, p, *_: F.dropout(x, p),
        "attention_forward": lambda q, k, v, *_: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "softmax_cross_entropy_forward": lambda z, y, *_: F.cross_entropy(z, y),
        "global_norm": lambda xs: torch.nn.utils.get_total_norm(xs),
    }


def tensors(torch, value):
    """The same with every array as a tensor over its memory."""
    if isinstance(value, list | tuple):
        return [tensors(torch, v) for v in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def measure(sides):
    """Median seconds of each function; they alternate."""
    found = {name: [] for name in sides}
    for turn in range(ROUNDS + 2):
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            if turn > 1:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in found.items()}


def rows(threads):
    """A dict for each kernel."""
    try:
        import torch
    except ImportError:
        torch, known = None, {}
    else:
        torch.set_num_threads(threads)
        known = peers(torch)
    best = peak_rates.bytes_a_second(), peak_rates.operations_a_second("float32")
    rng = np.random.default_rng(0)
    for case in CASES:
        args = case.arguments(SIZES, rng, np.dtype(np.float32))
        kernel = getattr(cpu, case.name)
        least, flops = least_bytes(case, args, kernel(*args)), case.flops(SIZES)
        sides = {"minigrad": lambda kernel=kernel, args=args: kernel(*args)}
        if case.name in known:
            peer, theirs = known[case.name], tensors(torch, args)
            sides["torch"] = lambda peer=peer, theirs=theirs: peer(*theirs)
        taken = measure(sides)
        floor = max(least / best[0], flops / best[1])
        yield {"kernel": case.name, "seconds": taken, "floor": floor,
               "limit": "bytes" if floor == least / best[0] else "operations"}  # fmt: skip


def line(row):
    """A row as text; times in ms."""
    ours, theirs = row["seconds"]["minigrad"], row["seconds"].get("torch")
    peer = f"{1e3 * theirs:10.3f} {ours / theirs:7.2f}" if theirs else f"{'-':>10} {'-':>7}"
    share = f"{row['floor'] / ours:6.0%} of {row['limit']}"
    return f"{row['kernel']:<32} {1e3 * ours:9.3f} {peer} {1e3 * row['floor']:9.3f} {share}"


HEAD = f"{'kernel, ms':<32} {'minigrad':>9} {'PyTorch':>10} {'ratio':>7} {'floor':>9}  share"


@cli.command_line("kernels.py")
def main():
    parser = cli.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out-dir", type=Path, help="write kernels.json and .md there too")
    args = parser.parse_args()
    try:
        runtime.configure(threads=args.threads)
    except runtime.DeviceError as error:
        parser.error(str(error))
    about = machine.describe(args.threads)
    print(machine.sentence(about), HEAD, sep="\n")
    found = []
    for row in rows(args.threads):
        found.append(row)
        print(line(row), flush=True)
    if args.out_dir:
        machine.write(args.out_dir / "kernels", about, [HEAD, *map(line, found)], found)


if __name__ == "__main__":
    sys.exit(main())
