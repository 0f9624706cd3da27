"""A run folder has one owner: processes started together never share one, whichever comes first."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tiny_transformer_np.training import checkpoint

pytestmark = pytest.mark.posix  # elsewhere there are no locks, see docs/platforms.md
ROOT = Path(__file__).parent.parent
TINY = [
    "--n-layer", "1", "--n-embd", "8", "--n-head", "1", "--seq-len", "8", "--batch-size", "2", "--warmup-steps", "2",
    "--kernels", "reference", "--eval-interval", "2", "--sample-tokens", "4", "--max-steps", "3", "--no-preflight",
]  # fmt: skip
UMASK = 0o027  # of the programs that are started
RATES = "0.001", "0.002", "0.003"
FILES = [
    "checkpoints", "checkpoints/best.safetensors", "checkpoints/latest.safetensors", "config.toml", "loss.png",
    "metrics.jsonl", "samples", "samples/step_000002.txt", "samples/step_000003.txt",
]  # fmt: skip

# Runs train.py and stops its own process, as Ctrl-Z does, before its first step, or before it builds its trainer
STOPPED = """
import os, runpy, signal, sys
from tiny_transformer_np.training import Trainer
original = Trainer.{0}
def stopped(self, *args):
    os.kill(os.getpid(), signal.SIGSTOP)
    return original(self, *args)
Trainer.{0} = stopped
runpy.run_path({1!r}, run_name="__main__")
"""


def start(folder, *args, program=(str(ROOT / "train.py"),)):
    return subprocess.Popen(
        [sys.executable, *program, *map(str, args)], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, umask=UMASK,
    )  # fmt: skip


def stopped(folder, method, *args):
    """The process, once it is stopped at its first call of that method of its Trainer."""
    process = start(folder, *args, program=("-c", STOPPED.format(method, str(ROOT / "train.py"))))
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), process.stderr.read()
    return process


def launch(folder, *args):
    """Three processes at once, each with a learning rate of its own -> [(rate, status, stdout, stderr)]."""
    processes = [start(folder, *TINY, "--data", folder / "text.txt", "--learning-rate", rate, *args) for rate in RATES]
    results = [process.communicate(timeout=600) for process in processes]
    return [(rate, p.returncode, *out) for rate, p, out in zip(RATES, processes, results, strict=True)]


def require_written_by_one_process(run, rate):
    """Assert that all files in the run's folder are by the process with this learning rate."""
    found = {str(path.relative_to(run)): path for path in run.rglob("*")}
    assert sorted(found) == FILES
    assert {path.stat().st_mode & 0o777 for path in found.values() if path.is_file()} == {0o666 & ~UMASK}
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["training"]["learning_rate"] == float(rate)
    for name in ("best", "latest"):
        meta = checkpoint.load(run / "checkpoints" / f"{name}.safetensors")[1]
        assert {"model": meta["model"], "training": meta["training"]} == config
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [("train", 1), ("eval", 2), ("train", 3), ("eval", 3)]
    assert rows[0]["lr"] == float(rate) / 2  # after one of two steps of warm-up


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    return tmp_path


@pytest.mark.parametrize("launches", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_three_at_once_get_three_folders(folder, launches):
    sound = set()
    for _ in range(launches):
        for rate, status, stdout, stderr in launch(folder):
            assert status == 0 and stderr == "", stderr
            run = folder / stdout.split()[1]
            require_written_by_one_process(run, rate)
            sound.add(run)
    assert len(sound) == 3 * launches and sorted(sound) == sorted((folder / "runs").iterdir())


@pytest.mark.parametrize("launches", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_of_three_in_one_folder_one_trains(folder, launches):
    for n in range(launches):
        run = folder / f"run{n}"
        results = launch(folder, "--out-dir", run)
        (winner,) = [rate for rate, status, _, _ in results if status == 0]
        require_written_by_one_process(run, winner)
        for _, status, _, stderr in results:
            assert status in (0, 2) and stderr.count("\n") == (status != 0) and "Traceback" not in stderr, stderr
            assert status == 0 or f"another process is training {run}" in stderr or "holds a run already" in stderr


def test_a_run_that_still_runs_is_not_resumed(folder):
    """The running process is suspended meanwhile, and then finishes undisturbed."""
    run = folder / "run"
    flags = [*TINY, "--data", folder / "text.txt", "--learning-rate", RATES[0], "--out-dir", run]
    with stopped(folder, "train", *flags) as process:
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for args in (["--resume", run], ["--resume", run, "--max-steps", "9"], flags):
            refused = start(folder, *args)
            stdout, stderr = refused.communicate(timeout=300)
            assert refused.returncode == 2 and stdout == "" and stderr.count("\n") == 1, (stdout, stderr)
            assert "another process is training" in stderr or "holds a run already" in stderr
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    require_written_by_one_process(run, RATES[0])


def test_what_is_refused_leaves_nothing(folder):
    """Before the folder is claimed and after, by preflight too; what was there stays."""
    (folder / "mine").mkdir()
    (folder / "mine" / "metrics.jsonl").write_text("somebody's")
    text = ["--data", folder / "text.txt"]
    for args, status, said in (
        ([*TINY, *text, "--out-dir", "mine"], 2, "mine holds metrics.jsonl, which a run would write"),
        ([*TINY, "--data", "missing.txt"], 2, "missing.txt"),
        ([*TINY, *text, "--seq-len", "5000", "--out-dir", "new/run"], 2, "seq_len"),
        ([*TINY[:-1], *text, "--learning-rate", "1e6", "--min-lr", "1e6"], 1, "nothing was written"),
    ):
        process = start(folder, *args)
        stderr = process.communicate(timeout=300)[1]
        assert process.returncode == status and said in stderr, stderr
        assert sorted(path.name for path in folder.iterdir()) == ["mine", "text.txt"], args
    assert (folder / "mine" / "metrics.jsonl").read_text() == "somebody's"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_step_leaves_nothing(folder, number):
    with stopped(folder, "__init__", *TINY, "--data", folder / "text.txt") as process:
        assert (folder / "runs").exists()
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=300) == ("", "") and process.returncode == 128 + number
    assert [path.name for path in folder.iterdir()] == ["text.txt"]
