"""Files from elsewhere, at random: each is accepted, or refused in one line by the error that is documented for it.

What was refused has changed nothing; nothing hangs, nothing takes the memory that a file claims to need. A failure
names its kind and number, from which alone a case is made. `MINIGRAD_FUZZ_CASES=10000` tries as many as that.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import fuzzed_files
import numpy as np
import pytest
from small_models import make_trainer
from test_checkpoint import same_bits, state_of

from benchmarks.memory_estimate import peak_resident
from kernels.system.errors import UserError
from kernels.system.printable import printable
from minigrad import random
from minigrad.compare_steps import Trace, first_divergence, trace
from tiny_transformer_np import ConfigError
from tiny_transformer_np.sampling.generator import generate
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training.metrics import MetricsLog
from tiny_transformer_np.training.run_folder import Run, stored_configs

SEED = 21
SECONDS = 60.0  # for one case: a hang; usual is a hundredth of a second, on a busy machine some
CLEAR_REFS = Path("/proc/self/clear_refs")  # where Linux begins a new peak of resident memory
MEGABYTES = 300  # by which all cases together may raise the peak of resident memory


class Subjects:
    """What is loaded into, and what sound files are made of."""

    def __init__(self, folder):
        self.run = Run(folder / "run")
        self.trainer = make_trainer(model={"n_layer": 1})
        self.trainer.source = {"files": [], "byte_order_marks": False}  # as of the Python manual
        self.trainer.train_step()
        self.trainer.train_step()
        self.run.write_config(self.trainer.model.config, self.trainer.config)
        self.trainer.save_checkpoint(self.run.latest)
        self.arrays, self.meta = checkpoint.load(self.run.latest)
        self.tables = {"model": self.meta["model"], "training": self.meta["training"]}
        row = {"kind": "train", "step": 1, "loss": 3.1, "perplexity": 20.0, "lr": 1e-3, "grad_norm": 1.0,
               "tokens_per_second": 9.0, "elapsed_seconds": 2.0}  # fmt: skip
        self.rows = [{**row, "step": n} for n in (1, 2, 3)]
        self.rows.insert(2, {"kind": "eval", "step": 2, "val_loss": 3.0, "val_perplexity": 20.0})
        self.parameters = dict(self.trainer.model.named_parameters())
        self.trace = trace(lambda: self.trainer.loss_of(1, 0), self.parameters)
        self.state = state_of(self.trainer)

    def restore(self):
        """Undo what an accepted file changed."""
        self.trainer.restore(self.run.latest, self.arrays, self.meta)

    # Each makes a case from a generator and returns (what was done, a function that reads it, its documented error).

    def checkpoint(self, rng, path):
        done = fuzzed_files.forged_checkpoint(rng, path, self.arrays, self.meta)
        trainer, how = self.trainer, fuzzed_files.pick(rng, ["load", "model", "trainer", "restore", "run"])

        def read():
            if how == "load":
                checkpoint.load(path)
            elif how == "model":
                model, tokenizer, _ = checkpoint.load_model(path)
                with np.errstate(all="ignore"), contextlib.suppress(FloatingPointError):
                    printable(tokenizer.decode(list(generate(model, [0], 3, np.random.default_rng(0)))))
            elif how == "trainer":
                trainer.load_checkpoint(path)
                with np.errstate(all="ignore"), contextlib.suppress(FloatingPointError):
                    trainer.train_step()
            elif how == "restore":
                trainer.restore(path, *checkpoint.read(path))
            else:
                run = Run(path.parent / "run")
                run.latest = path
                assert run.newest()[0] == path

        return f"{done}; by {how}", read, ConfigError

    def toml(self, rng, path):
        run = Run(path)
        path.mkdir(exist_ok=True)
        done = fuzzed_files.forged_toml(rng, run.config, self.tables)
        return done, lambda: run.write_config(*stored_configs(run)), ConfigError

    def metrics(self, rng, path):
        done = fuzzed_files.forged_metrics(rng, path, self.rows)
        last_step = int(rng.integers(4))

        def read():
            log = MetricsLog(path, last_step)
            assert all(row["step"] <= last_step for row in log.rows)
            log.append({"kind": "eval", "step": 4, "val_loss": 1.0, "val_perplexity": 2.7})
            again = MetricsLog(path, 4)
            assert again.rows == log.rows and again.unreadable == log.unreadable

        return done, read, ConfigError

    def trace_(self, rng, path):
        done = fuzzed_files.forged_trace(rng, path, self.trace)
        return done, lambda: first_divergence(Trace.load(path), self.trace), UserError

    def state_dict(self, rng, path):
        weights, optimizer = self.trainer.model.state_dict(), self.trainer.optimizer.state_dict()
        part = fuzzed_files.pick(rng, ["weights", "m", "v", "step"])
        if part == "step":
            state = {**optimizer, "step": dict(optimizer["step"])}
            done = fuzzed_files.edit(rng, state["step"])
        else:
            forged, done = fuzzed_files.forged_state(rng, weights if part == "weights" else optimizer[part])
            state = forged if part == "weights" else {**optimizer, part: forged}
        load = (self.trainer.model if part == "weights" else self.trainer.optimizer).load_state_dict
        return f"{part}: {done}", lambda: load(state), ValueError


#: of a hundred cases
SHARES = {"checkpoint": 60, "toml": 15, "metrics": 10, "trace_": 8, "state_dict": 7}


class Hang(BaseException):
    """No `except Exception` mistakes it for what a file is refused with."""


@contextlib.contextmanager
def limited(seconds):
    """Hang where the block takes longer; only on systems that have such a clock."""

    def late(number, frame):
        raise Hang(f"no answer after {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def attempt(subjects, kind, number, path):
    """Make a case and read it. -> "accepted" or "refused"."""
    rng = np.random.default_rng([SEED, list(SHARES).index(kind), number])
    done, read, documented = getattr(subjects, kind)(rng, path)
    try:
        with limited(SECONDS):
            read()
    except documented as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and len(message) < 3000 and printable(message) == message, (kind, number)
        assert same_bits(state_of(subjects.trainer), subjects.state), (kind, number, done, message)
        return "refused"
    except BaseException as error:
        error.add_note(f"fuzz case {kind} {number}: {done}")
        raise
    if kind in ("checkpoint", "state_dict"):
        subjects.restore()
    return "accepted"


def peak_megabytes():
    if os.name != "posix":
        return 0.0
    return peak_resident() / 1e6


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 150), pytest.param(150, int(os.environ.get("MINIGRAD_FUZZ_CASES", 2000)), marks=pytest.mark.slow)],
)
def test_every_file_is_accepted_or_refused_in_one_line(first, last, tmp_path, capsys):
    random.seek(0)
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")  # what other tests took is no peak
    subjects, counts, slowest, peak = Subjects(tmp_path), Counter(), 0.0, peak_megabytes()
    for kind, share in SHARES.items():
        for number in range(first * share // 100, last * share // 100):
            start = time.perf_counter()
            outcome = attempt(subjects, kind, number, tmp_path / kind)
            slowest = max(slowest, time.perf_counter() - start)
            counts[kind, outcome] += 1
    assert peak_megabytes() - peak < MEGABYTES
    with capsys.disabled():
        print("\nfuzz:", ", ".join(f"{kind} {n} {outcome}" for (kind, outcome), n in sorted(counts.items())), end=" ")
        print(f"(slowest {slowest:.2f} s, {peak_megabytes() - peak:.0f} MB)")
    for kind in SHARES:  # a case that nothing accepts, or nothing refuses, is no case
        assert counts[kind, "accepted"] > 0 and (counts[kind, "refused"] > 0 or kind == "metrics"), kind
