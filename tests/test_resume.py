"""A run that is killed again and again ends with the same bits as one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tiny_transformer_np.corpus.shards import EncodedPiece, write_index, write_shard
from tiny_transformer_np.tokenizers import ByteTokenizer

ROOT = Path(__file__).parent.parent
STEPS = 40
FLAGS = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "4", "--dropout", "0.1",
         "--warmup-steps", "5", "--eval-interval", "8", "--log-interval", "3", "--save-interval", "3",
         "--grad-accumulation-steps", "2", "--sample-tokens", "8", "--no-preflight", "--max-steps",
         str(STEPS)]  # fmt: skip

KILLS = int(os.environ.get("MINIGRAD_KILLS", "21"))  # at random instants, over all of these
CASES = {
    "a corpus and workers": ["--num-workers", "2", "--no-cross-documents", "--eval-tokens", "100"],
    "bfloat16": ["--dtype", "bfloat16"],
    "dropout": ["--dropout", "0.3"],
    "accumulation": ["--grad-accumulation-steps", "3", "--kernels", "fast"],
    "workers": ["--num-workers", "2"],
    "during evaluation": [],
    "during resume": [],
}

# Runs train.py and kills its own process on the n-th call of a function: argv is MODULE FUNCTION N ARGS...
KILLED_INSIDE = """
import importlib, os, runpy, signal, sys
module, name, n = importlib.import_module(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, calls = getattr(module, name), 0
def killed(*args, **kwargs):
    global calls
    calls += 1
    if calls == n:
        if module.__name__ == "kernels.system.tensors":  # half of the file is on disk
            original(*args, **kwargs)
            args[0].truncate(args[0].tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(module, name, killed)
sys.argv = ["train.py", *sys.argv[4:]]
runpy.run_path("train.py", run_name="__main__")
"""

# (module, function, call): at the very start, before, in the middle of and after saves, between rows and pictures
INSTANTS = [
    ("os", "replace", 1),  # before config.toml has its name: no run yet
    ("tiny_transformer_np.training.metrics", "_line", 1),  # a run without metrics and without a checkpoint
    ("minigrad.random", "seek", 2),  # in the very first step
    ("kernels.system.tensors", "write", 1),
    ("kernels.system.tensors", "write", 2),
    ("os", "fsync", 5),
    ("os", "replace", 4),
    ("tiny_transformer_np.training.trainer", "draw_metrics", 1),
    ("tiny_transformer_np.training.metrics", "_line", 6),
    ("kernels.adamw.reference", "adamw_step", 3),
]


def start(*args):
    command = [sys.executable, *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(*args):
    process = start("train.py", *args)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr


def bits(run):
    """All that must not depend on interruptions: checkpoints, samples, and metrics without the times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in row.items() if k not in ("tokens_per_second", "elapsed_seconds")} for row in rows]
    files = {str(p.relative_to(run)): p for p in run.rglob("*")}
    contents = {n: p.read_bytes() for n, p in files.items() if p.suffix in (".safetensors", ".txt")}
    return sorted(files), contents, metrics


def flags(text, kernels):
    return [*FLAGS, "--data", str(text), "--kernels", kernels]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("".join(random.Random(0).choices("abcdefgh \n", k=3000)))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder as `prepare` writes it, of 100 documents."""
    folder, tokenizer, rng = tmp_path_factory.mktemp("corpus"), ByteTokenizer(), random.Random(0)
    texts = ["".join(rng.choices("abcdefgh \n", k=rng.randrange(1, 100))) for _ in range(100)]
    pieces = (EncodedPiece(np.append(tokenizer.encode(text), tokenizer.end_of_text), len(text), True) for text in texts)
    write_index(folder, tokenizer, np.uint16, [write_shard(folder, "train-00000", pieces, np.uint16)])
    return folder


@pytest.fixture(scope="module", params=["reference", "fast"])
def unbroken(request, text, tmp_path_factory):
    run = tmp_path_factory.mktemp("unbroken") / "run"
    finish(*flags(text, request.param), "--out-dir", run)
    return request.param, bits(run)


def restart(run, new_run_flags):
    """The arguments to go on: resume if there is a run yet."""
    return ["--resume", run] if (run / "config.toml").exists() else [*new_run_flags, "--out-dir", run]


@pytest.mark.parametrize("unbroken", ["reference"], indirect=True)  # the places do not depend on the kernels
def test_killed_at_ten_chosen_instants(unbroken, text, tmp_path):
    """One after another on one run; the instants are counted from each restart."""
    kernels, expected = unbroken
    run = tmp_path / "run"
    for instant in INSTANTS:
        process = start("-c", KILLED_INSIDE, *instant, *restart(run, flags(text, kernels)))
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (instant, stderr)
    finish(*restart(run, flags(text, kernels)))
    assert bits(run) == expected


IN_WORKERS = [  # a thread draws the order of a batch, reads it, and the step that needs it
    ("minigrad.random", "shuffled", 9),
    ("kernels.adamw.reference", "adamw_step", 7),
]


def test_workers_change_no_bit_and_a_kill_neither(corpus, tmp_path):
    """Of weights, moments, losses and samples; the checkpoints differ in the setting alone."""
    train = [*FLAGS, "--data", corpus, "--kernels", "reference"]
    finish(*train, "--out-dir", tmp_path / "without")
    run = tmp_path / "with"
    for instant in IN_WORKERS:
        process = start("-c", KILLED_INSIDE, *instant, *restart(run, [*train, "--num-workers", "2"]))
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (instant, stderr)
    finish(*restart(run, [*train, "--num-workers", "2"]))
    (files, contents, metrics), expected = bits(run), bits(tmp_path / "without")
    assert (files, metrics) == (expected[0], expected[2])
    for name in contents:
        if name.endswith(".safetensors"):
            here, there = (load_file(tmp_path / folder / name) for folder in ("with", "without"))
            assert here.keys() == there.keys() and all(np.array_equal(here[key], there[key]) for key in here), name
        else:
            assert contents[name] == expected[1][name], name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_instants(case, text, corpus, tmp_path):
    """`KILLS` in all, in a run that is started anew when it ends before it was killed often enough."""
    data = corpus if "corpus" in case else text
    train = [*FLAGS, "--data", data, "--kernels", "reference", *CASES[case]]
    if case == "during evaluation":
        (tmp_path / "long.txt").write_text(text.read_text() * 20)
        train += ["--val-data", tmp_path / "long.txt"]
    started = time.monotonic()
    process = start("train.py", *train, "--out-dir", tmp_path / "undisturbed")
    _wait_for_progress(process, tmp_path / "undisturbed")
    startup = time.monotonic() - started
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    expected = bits(tmp_path / "undisturbed")
    assert not [name for name in expected[0] if "/." in f"/{name}" or "partial" in name]

    rng, kills, runs = random.Random(case), 0, 0
    while kills < KILLS // len(CASES):
        runs += 1
        run, status = tmp_path / f"run{runs}", None
        while kills < KILLS // len(CASES) and status != 0:
            process = start("train.py", *restart(run, train))
            if case == "during resume" and run.exists():
                time.sleep(rng.uniform(0.0, startup))
            else:
                _wait_for_progress(process, run)
                time.sleep(rng.uniform(0.0, 0.3 if case == "during evaluation" else 0.08))
            process.kill()
            _, stderr = process.communicate()
            status = process.returncode
            assert status in (0, -signal.SIGKILL), stderr
            kills += status != 0
        if status != 0:
            finish(*restart(run, train))
        assert bits(run) == expected
    print(f"{case}: {kills} kills in {runs} runs")


def _wait_for_progress(process, run):
    """Until another row of metrics is there, so that a kill does not come before the first step."""
    before = _progress(run)
    while process.poll() is None and _progress(run) == before:
        time.sleep(0.002)


def _progress(run):
    path = run / "metrics.jsonl"
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(unbroken, text, tmp_path, number):
    kernels, expected = unbroken
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "train.py", *flags(text, kernels), "--save-interval", "1000", "--out-dir", run],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("step 6/"):
            process.send_signal(number)
            break
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number, output
    assert f"--resume {run}" in output and "stopped at step" in output
    assert (run / "checkpoints" / "latest.safetensors").exists()
    finish("--resume", run, "--save-interval", "3")
    assert bits(run)[2] == expected[2]


def test_half_written_files_are_cleared_away(text, tmp_path):
    """What an earlier version left is removed too; what the program did not write stays."""
    run = tmp_path / "run"
    finish(*flags(text, "reference"), "--out-dir", run)
    (run / "mine.partial").mkdir()
    (run / "mine.partial" / "mine.partial").touch()
    expected = bits(run)
    for name in ("latest.safetensors.partial", ".tmpAb3xYz", ".best.safetensors.99999-0123abcd.partial"):
        (run / "checkpoints" / name).write_bytes(b"half")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')
    finish("--resume", run)
    assert bits(run) == expected
