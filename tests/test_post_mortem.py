"""A run with NaN or infinity names the operation, keeps its weights, and --post-mortem opens pdb in that operation."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tiny_transformer_np.training import checkpoint

ROOT = Path(__file__).parent.parent
FLAGS = [
    "--n-layer", "2", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "2", "--sample-tokens", "0",
    "--max-steps", "20", "--kernels", "reference", "--learning-rate", "1e30", "--warmup-steps", "0",
]  # fmt: skip


def run(*args, stdin=""):
    return subprocess.run(
        [sys.executable, "train.py", *map(str, args)],
        cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_divergence_is_located_saved_and_entered(tmp_path):
    """A learning rate of 1e30 makes weights so large that the second step overflows."""
    out = tmp_path / "run"
    result = run(*FLAGS, "--no-preflight", "--out-dir", out)
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "at step 2" in result.stderr and "the weights are still those of step 1" in result.stderr
    assert "is the first that is not finite" in result.stderr and "model.py" in result.stderr

    dump = out / "checkpoints" / "post_mortem_000002.safetensors"
    assert str(dump) in result.stderr
    arrays, meta = checkpoint.load(dump)
    assert meta["step"] == 1 and all(np.isfinite(a).all() for a in arrays.values())

    entered = run("--post-mortem", dump, stdin="args\np ('finite inputs', bool(np.isfinite(input.data).all()))\nquit\n")
    assert entered.returncode == 0, entered.stderr
    assert "is the first that is not finite" in entered.stdout and "(Pdb)" in entered.stdout
    assert "('finite inputs', True)" in entered.stdout


def test_a_sound_run_passes_its_verification(tmp_path):
    flags = [*FLAGS, "--learning-rate", "1e-3", "--min-lr", "0", "--no-preflight"]
    plain, verified = tmp_path / "plain", tmp_path / "verified"
    assert run(*flags, "--max-steps", "4", "--out-dir", plain).returncode == 0
    result = run(*flags, "--max-steps", "4", "--verify-every", "2", "--out-dir", verified)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stdout.splitlines() if ": verified " in line]
    assert [line.split(": ")[0] for line in said] == ["step 2", "step 4"]
    assert all(line.count(",") == 3 and " in blocks.0" in line for line in said), said  # four nodes, by name
    name = "checkpoints/latest.safetensors"
    first, second = (checkpoint.load(path / name)[0] for path in (plain, verified))
    assert all(np.array_equal(first[key], second[key]) for key in first)  # looking changes nothing
