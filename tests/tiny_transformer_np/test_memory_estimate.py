"""How much memory a run needs: sums that fit what is allocated, the system's limits, and what is refused."""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_models import make_model, model_config, training_config

from kernels import matmul_precision
from tiny_transformer_np import ConfigError
from tiny_transformer_np.training import memory
from tiny_transformer_np.training.__main__ import MemoryCheck, main

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 2**31 - 1


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"bias": False},
        {"tie_weights": False},
        {"positions": "sinusoidal"},
        {"n_layer": 5, "n_embd": 12, "n_head": 3},
    ],
)
def test_the_parameters_are_counted_without_making_them(shape):
    assert memory.num_parameters(model_config(**shape)) == make_model(**shape).num_parameters()


def estimate(model=None, n_tokens=(1000, 100), **training):
    return memory.of_run(model_config(**(model or {})), training_config(**training), n_tokens)


def test_every_kind_grows_with_what_it_depends_on():
    base = estimate(kernels="reference")
    for changes, kinds in (
        ({"batch_size": 400}, {"step", "batches"}),
        ({"n_tokens": (10**12, 100)}, set()),  # they are mapped
        ({"grad_accumulation_steps": 50}, {"batches"}),
        ({"num_workers": 10}, {"batches"}),
        ({"model": {"n_layer": 20}}, {"program", "weights", "gradients", "moments", "step", "saving", "first weights"}),
        ({"kernels": "fast"}, {"program", "step", "evaluation"}),  # less for the last two: no scores
    ):
        other = estimate(**{"kernels": "reference", **changes})
        now, before = ({**e.held, **e.passing} for e in (other, base))
        assert {kind for kind in now if now[kind] != before[kind]} == kinds, changes
        assert other.total == sum(other.held.values()) + max(other.passing.values())
    resumed = memory.of_run(model_config(), training_config(), (1000, 100), resumed=True)
    assert resumed.passing["resuming"] == 16 * memory.num_parameters(model_config())


def test_bfloat16_keeps_half_for_backward():
    full = estimate({"n_layer": 50}, batch_size=1000).passing["step"]
    matmul_precision.select("bfloat16")
    try:
        rounded = estimate({"n_layer": 50}, batch_size=1000).passing["step"]
    finally:
        matmul_precision.select("float32")
    assert 0.5 < rounded / full < 0.7


def test_the_estimate_takes_no_time_however_large_the_run():
    started = time.process_time()
    model = {"n_layer": LARGEST, "n_embd": LARGEST, "n_head": 1, "vocab_size": LARGEST, "block_size": LARGEST}
    needed = estimate(model, (2**62, 2**62), batch_size=LARGEST, seq_len=LARGEST, grad_accumulation_steps=LARGEST)
    for check in (True, False):
        with pytest.raises(
            ConfigError, match=r"more than 1000 EB of memory, most of it for the .*any process can have"
        ):
            memory.require(needed, check=check)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(("share", "outcome"), [(0.79, None), (0.81, "warned"), (0.99, "warned"), (1.01, "refused")])
def test_a_run_is_refused_above_the_limit_and_warned_of_near_it(share, outcome, monkeypatch):
    needed = estimate()
    monkeypatch.setattr(memory, "available", lambda: (needed.total / share, "the limit of a test"))
    assert memory.describe(needed) == f"about 210 MB of {memory.human(needed.total / share)}"
    assert memory.require(needed, check=False) is None
    if outcome == "refused":
        with pytest.raises(ConfigError, match=r"about 210 MB .* the limit of a test is 20\d MB; .* --no-memory-check$"):
            memory.require(needed)
    else:
        assert bool(memory.require(needed)) == bool(outcome)


def test_a_system_that_says_nothing_is_no_limit(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: (None, ""))
    assert memory.require(estimate()) is None and memory.describe(estimate()) == "about 210 MB"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "1000"}, (1000, "memory.max")),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "max"}, None),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.max": "70"}, (70, "memory.max")),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.high": "60", "sys/fs/cgroup/a/memory.max": "70"}, (60, "memory.high")),
        ("0::/not/here\n", {"sys/fs/cgroup/memory.max": "50"}, (50, "memory.max")),  # in a container
        (
            "4:memory:/job\n0::/\n",
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
             "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "40"},
            (40, "memory.limit_in_bytes"),
        ),
        ("", {}, None),
    ],
)  # fmt: skip
def test_limits_of_control_groups_are_found(cgroup, files, expected, tmp_path):
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    size, where = memory.available(tmp_path)
    if expected:
        assert size == expected[0] and f"({expected[1]})" in where
    else:
        assert (size, where) == memory.available(tmp_path / "nothing")


def test_a_limit_of_the_address_space_is_found():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from tiny_transformer_np.training import memory; print(*memory.available())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    size, where = done.stdout.split(" ", 1)
    assert int(size) < 3 << 30 and "ulimit -v" in where, done


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--n-embd", "2147483640"],
            ["the run needs more than 1000 EB of memory, most of it for the", "more than any process can have"],
        ),
        (["--n-embd", "10000000000"], ["n_embd is 10000000000; expected at most 2147483647"]),
        (["--n-layer", "1000000000"], ["about 7.16 PB of memory, most of it for the step", "n_layer"]),
        (["--n-layer", "99999999999999999999"], ["n_layer is 99999999999999999999; expected at most"]),
        (["--n-layer", "9" * 5000], ["--n-layer", "(5,0"]),
        (
            ["--batch-size", "100000000"],
            ["about 348 TB", "most of it for the step", "lower batch_size"],
        ),
        (
            ["--batch-size", "500000"],
            ["most of it for the step, but", "memory is", "lower batch_size", "--no-memory-check"],
        ),
        (["--grad-accumulation-steps", "10000000"], ["most of it for the batches"]),
        (["--seq-len", "2000000000", "--no-memory-check"], ["more than any process can have; lower batch_size"]),
        (["--seed", "-1"], ["seed is -1; expected 0 or more"]),
        (["--seed", str(2**64)], ["seed is 18446744073709551616; expected at most"]),
        (["--learning-rate", "nan"], ["learning_rate is nan"]),
        (["--n-layer", "2.5"], ["--n-layer"]),
    ],
)
def test_sizes_are_refused_from_the_command_line(flags, words, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    monkeypatch.setattr(memory, "available", lambda: (25 << 30, "this machine's memory"))
    monkeypatch.setattr(sys, "argv", ["train.py", "--kernels", "reference", "--out-dir", str(out), *flags])
    with pytest.raises(SystemExit) as left:
        main()
    message = capsys.readouterr().err
    assert left.value.code == 2 and message.count("\n") == 1 and len(message) < 600, message
    assert all(word in message for word in words), message
    assert not out.exists()


def test_the_command_line_warns_once_and_then_keeps_the_estimate(monkeypatch, capsys):
    args = argparse.Namespace(no_preflight=True, preflight=False, no_memory_check=False)
    monkeypatch.setattr(memory, "available", lambda: (240 * 10**6, "this machine's memory"))
    needed = MemoryCheck(args, {"n_layer": 1}, training_config(), resumed=False)
    assert capsys.readouterr().err == ""  # before the data are read it only refuses
    needed(model_config(), (1000, 100))
    assert re.fullmatch(
        r".*: warning: the run needs about 210 MB of memory, most of it for the program, and this machine's memory is "
        r"240 MB; lower n_layer or n_embd if it fails\n", capsys.readouterr().err
    )  # fmt: skip
    assert needed.estimate == memory.of_run(model_config(), training_config(), (1000, 100))
    args.no_memory_check = True
    MemoryCheck(args, {"n_layer": 1}, training_config(), resumed=False)(model_config(), (1000, 100))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kernels"), [("small", "reference"), ("small", "fast"), ("course", "fast")])
def test_the_estimate_is_what_a_run_takes(case, kernels):
    from benchmarks.memory_estimate import measured

    if kernels == "fast":
        measured("tiny", "float32", kernels)  # a process that compiles takes more
    found = measured(case, "float32", kernels)
    assert 0.8 < found["estimate"] / found["peak"] < 1.2, found
