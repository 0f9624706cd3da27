"""Preflight lets sound models pass, in every variant, leaves no trace in training, and stops train.py on a fault."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from preflight_helpers import TEXT, failed, says, trainer_of
from small_models import same_bits, weights_of

import kernels
from minigrad import random
from tiny_transformer_np.training import preflight
from tiny_transformer_np.training.preflight import CHECKS

ROOT = Path(__file__).parent.parent.parent
NAMES = [check.__name__.replace("_", " ") for check, _, _ in CHECKS]


@pytest.fixture(autouse=True)
def plain_kernels():
    with kernels.use("reference"):
        yield


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": {"dropout": 0.2}},
        {"model": {"tie_weights": False, "gelu": "none"}},
        {"model": {"positions": "sinusoidal", "bias": False}},
        {"model": {"n_embd": 16, "n_head": 1, "n_layer": 1}},
        {"grad_accumulation_steps": 3, "batch_size": 1},
        {"seq_len": 70, "batch_size": 2},  # past a tile of the attention kernel
        {"seq_len": 2},
        {"seq_len": 1},
        {"warmup_steps": 0},
        {"dtype": np.float64},
    ],
    ids=lambda settings: " ".join(map(str, settings)) or "plain",
)
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_a_sound_model_passes(settings, kernel_set):
    lines = []
    with kernels.use(kernel_set):
        assert preflight.preflight(trainer_of(**settings), say=lines.append) == []
    assert [line[:20].split() for line in lines] == [["preflight", "ok", name.split()[0][:2]] for name in NAMES]
    assert all(len(line) <= 100 and "\n" not in line for line in lines)


def test_position_embeddings_beyond_the_window_are_no_false_alarm():
    """Of 64 positions only 8 are ever used."""
    failed(trainer_of(model={"block_size": 64}))


def test_no_validation_text_is_fine():
    trainer = trainer_of()
    trainer.val_dataset = None
    failed(trainer)


def test_a_large_model_gets_the_cheap_checks_unless_all_are_asked_for(monkeypatch):
    monkeypatch.setattr(preflight, "LARGE", 1000)
    lines = []
    assert preflight.preflight(trainer_of(), say=lines.append) == []
    left_out = [name for name, line in zip(NAMES, lines, strict=True) if line.startswith("preflight - ")]
    assert left_out == ["movement", "overfitting", "gradcheck"]
    lines.clear()
    assert preflight.preflight(trainer_of(), whole=True, say=lines.append) == []
    assert all("left out" not in line for line in lines)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_training_has_the_same_bits_with_and_without(kernel_set):
    settings = {"model": {"dropout": 0.2, "n_layer": 1}, "grad_accumulation_steps": 2, "max_steps": 4}
    with kernels.use(kernel_set):
        checked, plain = trainer_of(**settings), trainer_of(**settings)
        grad = np.ones_like(checked.model.ln_final.weight.data)
        checked.model.ln_final.weight.grad = grad  # somebody's own
        random.seek(11, 22, 33)
        before, weights, moments = random._tape.position, weights_of(checked), checked.optimizer.state_dict()
        assert preflight.preflight(checked, say=lambda line: None) == []
        assert random._tape.position == before
        assert same_bits(weights_of(checked), weights)
        assert checked.model.ln_final.weight.grad is grad and (grad == 1.0).all()
        assert all(p.grad is None for p in checked.model.parameters() if p is not checked.model.ln_final.weight)
        after = checked.optimizer.state_dict()
        assert after["step"] == moments["step"] and all(same_bits(after[m], moments[m]) for m in "mv")
        assert checked.model.training and checked.step == 0
        assert kernels.describe() == kernel_set
        for _ in range(4):
            assert checked.train_step() == plain.train_step()
        assert same_bits(weights_of(checked), weights_of(plain))


# ------------------------------------------------------------------------------------------ the command line

TINY = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "2", "--max-steps", "1",
        "--kernels", "reference", "--sample-tokens", "0"]  # fmt: skip
SEEDED = """
import runpy, sys
import numpy as np
from kernels.attention import reference
if FAULT:
    reference._scores = lambda q, k, scale, causal: (
        (q @ k.swapaxes(-1, -2)) * scale + np.tri(q.shape[2], k.shape[2], dtype=q.dtype))
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def train(folder, *args, fault=False):
    (folder / "text.txt").write_text(TEXT)
    command = [sys.executable, "-c", f"FAULT = {fault}\n{SEEDED}", *TINY, "--data", str(folder / "text.txt"), *args]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=300)  # fmt: skip


def test_a_failed_preflight_stops_train_py_before_anything_is_written(tmp_path):
    for flags in ([], ["--preflight"]):
        result = train(tmp_path, "--out-dir", str(tmp_path / "run"), *flags, fault=True)
        assert result.returncode == 1, result.stderr
        says(result.stderr, "a causal mask of 1 and 0 is added to the scores", "nothing was written", "--no-preflight")
        assert "preflight FAILED" in result.stdout and not (tmp_path / "run").exists()
    result = train(tmp_path, "--out-dir", str(tmp_path / "run"), "--no-preflight", fault=True)
    assert result.returncode == 0 and "preflight ok" not in result.stdout and not result.stderr


def test_train_py_checks_a_new_run_and_not_a_resumed_one(tmp_path):
    run = ["--out-dir", str(tmp_path / "run")]
    result = train(tmp_path, *run, "--preflight")
    assert result.returncode == 0 and result.stdout.count("preflight ok") == len(NAMES), result.stderr
    assert not (tmp_path / "run").exists() and "step 1" not in result.stdout.replace("at step 1", "")
    assert train(tmp_path, *run).stdout.count("preflight ok") == len(NAMES)
    assert train(tmp_path, "--out-dir", str(tmp_path / "unchecked"), "--no-preflight").returncode == 0
    name = "checkpoints/latest.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "unchecked" / name).read_bytes()
    resumed = [sys.executable, "train.py", "--resume", str(tmp_path / "run"), "--max-steps", "2"]
    result = subprocess.run(resumed, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "preflight ok" not in result.stdout, result.stderr
    result = subprocess.run([*resumed, "--preflight"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2 and "leave out --resume" in result.stderr
