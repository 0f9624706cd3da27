"""Times on a GPU: every kernel against the card's measured peak, and a training step against PyTorch's.

The peak is measured on the card, in the same minute: the bandwidth of a copy, and cuBLAS's rate at a large product.
"""

import statistics
import sys
import time

import numpy as np

import kernels
from benchmarks.kernel_costs import CASES, GPT2, least_bytes
from minigrad import runtime

DTYPES = ("float32", "float16")
REPEATS = 20  # the median is reported
FLUSH = 256 << 20  # bytes written between two runs, more than any card's L2 holds
STEP = {"n_layer": 12, "n_embd": 768, "n_head": 12, "dropout": 0.0}
BATCH, LENGTH, VOCABULARY = 4, 1024, 50304


def card():
    """The GPU, and the versions of its software."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "card": properties["name"].decode(),
        "capability": cupy.cuda.Device().compute_capability,
        "gigabytes": round(properties["totalGlobalMem"] / 2**30, 1),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "cupy": cupy.__version__,
    }


def seconds(call, flush):
    """Median seconds that the GPU is busy with one call, its inputs not in the cache."""
    import cupy

    for _ in range(3):
        call()
    found = []
    for _ in range(REPEATS):
        flush.fill(0)  # also keeps the GPU busy while the host launches the call
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        call()
        end.record()
        end.synchronize()
        found.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(found)


def peaks(flush):
    """{"bandwidth": bytes a second of a copy, "float32", "float16": operations a second of a product}."""
    import cupy

    source = cupy.zeros(1 << 28, np.uint8)
    target = cupy.empty_like(source)
    found = {"bandwidth": 2 * source.nbytes / seconds(lambda: cupy.copyto(target, source), flush)}
    for dtype in DTYPES:
        x = cupy.ones((8192, 8192), dtype)
        found[dtype] = 2 * 8192**3 / seconds(lambda x=x: cupy.matmul(x, x), flush)
    return found


def kernel_times(device, sizes=GPT2, dtypes=DTYPES, measure=seconds, best=None):
    """A row for each kernel and dtype: bytes, operations, seconds, and the share of the floor that they are."""
    place, rng, flush = runtime.module(device), np.random.default_rng(0), None
    if best is None:
        flush = place.empty((FLUSH,), np.uint8)
        best = peaks(flush)
    rows = []
    for dtype in map(np.dtype, dtypes):
        for case in CASES:
            args = moved(case.arguments(sizes, rng, dtype), place)
            kernel = getattr(kernels.for_array(first(args)), case.name)
            least, flops = least_bytes(case, args, kernel(*args)), case.flops(sizes)
            taken = measure(lambda kernel=kernel, args=args: kernel(*args), flush)
            floor = max(least / best["bandwidth"], flops / best[dtype.name])
            limit = "bytes" if floor == least / best["bandwidth"] else "flops"
            rows.append({"kernel": case.name, "dtype": dtype.name, "bytes": least, "flops": flops,
                         "seconds": taken, "floor": floor, "limit": limit})  # fmt: skip
            del args
    return {"peaks": best, "rows": rows}


def moved(value, place):
    """The same with every NumPy array on the device."""
    if isinstance(value, list | tuple):
        return [moved(v, place) for v in value]
    return place.asarray(value) if isinstance(value, np.ndarray) else value


def first(args):
    """One of the arrays among a kernel's arguments."""
    return args[0][0] if isinstance(args[0], list) else args[0]


def step(device, turns=3, steps=5):
    """Seconds of a float32 step of GPT-2, ours and PyTorch's, alternating; PyTorch's if it supports this GPU."""
    config, training, ids, targets = case(device)
    sides = {"minigrad": minigrad_step(config, training, ids, targets, device)}
    try:
        import torch

        from benchmarks.torch_model import make_step
    except ImportError:
        torch = None
    if torch is not None and torch.cuda.is_available():
        for name, compiled in (("PyTorch eager", False), ("PyTorch compiled", True)):
            sides[name] = make_step(config, training, ids, targets, device="cuda", compiled=compiled)
    found, problems = {name: [] for name in sides}, []
    for turn in range(turns + 1):  # the first one warms up and compiles
        for name, run in list(sides.items()):
            try:
                taken = _timed(run, steps)
            except Exception as error:  # PyTorch's failure must not end the report
                if name == "minigrad":
                    problems.append(f"the training step failed: {error}")
                print(f"{name} left out: {error}", file=sys.stderr)
                del sides[name], found[name]
                continue
            if turn:
                found[name].append(taken)
    medians = {name: statistics.median(each) for name, each in found.items()}
    return {"problems": problems, "seconds": medians, "tokens": BATCH * LENGTH}


def _timed(run, steps):
    started = time.perf_counter()
    for _ in range(steps):
        loss = run()
    float(loss)  # waits for the device
    return (time.perf_counter() - started) / steps


def case(device):
    """(TransformerConfig, TrainingConfig, ids, targets) of GPT-2, a random batch."""
    from tiny_transformer_np.config import TrainingConfig, TransformerConfig

    config = TransformerConfig(**STEP, vocab_size=VOCABULARY, block_size=LENGTH, tie_weights=True)
    training = TrainingConfig(seq_len=LENGTH, batch_size=BATCH, max_steps=10**9, warmup_steps=0, device=device)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, LENGTH + 1))
    return config, training, np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


def minigrad_step(config, training, ids, targets, device):
    from benchmarks.worker import trainer_on_batch

    trainer = trainer_on_batch(config, training, ids, targets)
    return lambda: trainer.train_step()[0]


def markdown(measured, step):
    """The report's section on times."""
    best = measured["peaks"]
    lines = ["", "## Times of kernels", "",
             f"Measured on this card: a copy moves {best['bandwidth'] / 1e9:.0f} GB/s; a large product does "
             f"{best['float32'] / 1e12:.1f} TFLOP/s in float32, {best['float16'] / 1e12:.1f} in float16. The floor is "
             "the longer of least bytes over bandwidth and operations over that rate. Sizes of GPT-2, 8 texts of 1024 "
             "tokens.", "", "| kernel | dtype | MB | GFLOP | us | floor, us | share of the best |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in measured["rows"]:
        share = row["floor"] / row["seconds"]
        lines.append(
            f"| `{row['kernel']}` | {row['dtype']} | {row['bytes'] / 1e6:.1f} | {row['flops'] / 1e9:.1f} | "
            f"{1e6 * row['seconds']:.1f} | {1e6 * row['floor']:.1f} ({row['limit']}) | {share:.0%} |"
        )
    lines += ["", "## A training step", "", "GPT-2 with 124 million parameters in float32, "
              f"{BATCH} texts of {LENGTH} tokens.", "", "| | ms | tokens a second |", "|---|---|---|"]  # fmt: skip
    for name, taken in step["seconds"].items():
        lines.append(f"| {name} | {1e3 * taken:.1f} | {step['tokens'] / taken:.0f} |")
    if len(step["seconds"]) == 1:
        lines += ["", "PyTorch is not installed with CUDA; it was not measured."]
    return lines
