"""Time of a training step, ours and PyTorch's, on the same model and batch: python benchmarks/train_step.py

Each side lives in a process of its own, since the two want their threads set up differently. The rounds
alternate between them, so that whatever else the machine does hits both; medians and their ratio are printed.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tiny_transformer_np.config import TrainingConfig, TransformerConfig, load_toml

VOCAB_SIZE = 103  # of the default data
SIDES = ("minigrad", "torch")


def load_case(path):
    """(TransformerConfig, TrainingConfig, ids, targets) of a config file; the batch is random."""
    tables = load_toml(path)
    training = TrainingConfig(**tables["training"])
    config = TransformerConfig(**{"vocab_size": VOCAB_SIZE, **tables["model"], "block_size": training.seq_len})
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.vocab_size, (training.batch_size, training.seq_len + 1))
    return config, training, np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


def trainer_on_batch(config, training, ids, targets):
    """Our Trainer, which gets this same batch in every step. `minigrad.device.configure` goes before."""
    from minigrad import random
    from tiny_transformer_np.model import TransformerLM
    from tiny_transformer_np.training import TextDataset, Trainer

    random.seek(0)
    dataset = TextDataset(np.zeros(2 * training.seq_len, np.int64), None, training.seq_len)
    dataset.batch = lambda number, batch_size, seed: (ids, targets)
    # a long constant schedule: the rate does not matter for the time, but no step may be the last
    training = dataclasses.replace(training, max_steps=10**9, warmup_steps=0)
    return Trainer(TransformerLM(config), dataset, None, training)


def minigrad_step(config, training, ids, targets, threads):
    """A function that performs one step of our Trainer on this batch and returns the loss."""
    from minigrad import device

    device.configure(threads=threads)
    trainer = trainer_on_batch(config, training, ids, targets)
    return lambda: trainer.train_step()[0]


def torch_step(config, training, ids, targets, threads):
    """A function that performs one step in PyTorch, eager mode, and returns the loss."""
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from torch_model import make_step

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return make_step(config, training, ids, targets)


def work(side, path, threads):
    """The measuring process: for each line "n" on stdin, time n steps and print their seconds as JSON."""
    step = {"minigrad": minigrad_step, "torch": torch_step}[side](*load_case(path), threads)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)


def compare(path, rounds, steps, threads):
    """Median seconds of a step per side, over all rounds but the first, which warms up."""
    command = [sys.executable, __file__, "--config", str(path), "--threads", str(threads), "--worker"]
    workers = {
        side: subprocess.Popen([*command, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in SIDES
    }
    seconds = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side, worker in workers.items():
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
            if not answer:
                sys.exit(f"the {side} process ended early; its message is above")
            if number:
                seconds[side] += json.loads(answer)["seconds"]
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {side: statistics.median(times) for side, times in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "default.toml"), help="model and batch to measure")
    parser.add_argument("--rounds", type=int, default=8, help="rounds; each side has one turn in each")
    parser.add_argument("--steps", type=int, default=20, help="steps in a turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.config, args.threads)
    config, training, _, _ = load_case(args.config)
    print(
        f"{Path(args.config).stem}: {config.n_layer} layers x {config.n_embd}, batch {training.batch_size}, "
        f"T {training.seq_len}, V {config.vocab_size}, float32, {args.threads} threads, "
        f"median of {args.rounds} x {args.steps} steps"
    )
    medians = compare(args.config, args.rounds, args.steps, args.threads)
    for side, name in (("minigrad", "minigrad"), ("torch", "PyTorch eager")):
        print(f"{name:<14}{1e3 * medians[side]:9.2f} ms a step")
    print(f"{'ratio':<14}{medians['minigrad'] / medians['torch']:9.2f}")


if __name__ == "__main__":
    main()
