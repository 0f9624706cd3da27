"""`--device cuda-sim` trains as `--device cpu` does: the same numbers, resumed across devices, and nobody waits."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cudasim import array as sim
from kernels.cuda.uploads import Uploads
from minigrad import gradcheck
from minigrad.gradient_checking import table
from tiny_transformer_np.config import TrainingConfig
from tiny_transformer_np.training.build_trainer import build_trainer
from tiny_transformer_np.training.diagnosis import step_backward

ROOT = Path(__file__).parent.parent
SHAPE = {"n_layer": 2, "n_embd": 32, "n_head": 2, "dropout": 0.1}
TRAINING = {"seq_len": 16, "batch_size": 4, "max_steps": 20, "learning_rate": 3e-3, "min_lr": 3e-4, "warmup_steps": 5,
            "log_interval": 1, "eval_interval": 10, "save_interval": 10, "sample_tokens": 8, "threads": 1}  # fmt: skip
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "pack",
    "my",
    "box",
    "with",
    "five",
    "dozen",
    "liquor",
    "jugs",
]
TEXT = " ".join(np.random.default_rng(0).choice(WORDS, 400))  # in random order: preflight looks for repeats

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    return folder


def train(folder, name, device, *more):
    """A run through the command line."""
    given = {**SHAPE, **TRAINING, "device": device}
    flags = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "train.py", *flags, "--data", folder / "text.txt", "--out-dir", folder / name, *more]
    return subprocess.run(command, cwd=ROOT, check=True, timeout=600, capture_output=True, text=True).stdout


def rows(folder, name):
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same(a, b):
    """Step by step, to 1e-5."""
    assert [(row["kind"], row["step"]) for row in a] == [(row["kind"], row["step"]) for row in b]
    for mine, other in zip(a, b, strict=True):
        for key in ("loss", "val_loss", "grad_norm", "lr"):
            if key in other:
                assert mine[key] == pytest.approx(other[key], rel=1e-5), (mine, other)


@pytest.fixture(scope="module")
def runs(folder):
    """The same run on both devices."""
    printed = {device: train(folder, device, device) for device in ("cpu", "cuda-sim")}
    return folder, printed


@pytest.mark.slow
def test_both_devices_give_the_same_losses(runs):
    folder, printed = runs
    cpu, device = rows(folder, "cpu"), rows(folder, "cuda-sim")
    assert sum(row["kind"] == "train" for row in device) == 20
    assert_same(device, cpu)
    assert "device    cuda-sim" in printed["cuda-sim"] and "preflight ok      gradcheck" in printed["cuda-sim"]
    assert sorted(p.name for p in (folder / "cuda-sim" / "samples").iterdir())


@pytest.mark.slow
def test_the_command_line_resumes_on_the_other_device(runs):
    folder, _ = runs
    shutil.copytree(folder / "cpu", folder / "moved")
    command = [sys.executable, "train.py", "--resume", folder / "moved", "--device", "cuda-sim", "--max-steps", "22"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600, capture_output=True)
    assert [row["step"] for row in rows(folder, "moved") if row["kind"] == "train"] == list(range(1, 23))


# ------------------------------------------------------------------------------------------ in this process


def trainer_on(folder, device, **changes):
    config = TrainingConfig(**{**TRAINING, "data": (str(folder / "text.txt"),), "device": device, **changes})
    return build_trainer(SHAPE, config)


@pytest.mark.parametrize("first,then", [("cpu", "cuda-sim"), ("cuda-sim", "cpu"), ("cuda-sim", "cuda-sim")])
def test_a_run_goes_on_on_another_device(folder, tmp_path, first, then):
    """The same losses as without the change, to 1e-5; on the same device the same bits."""
    trainer = trainer_on(folder, first)
    for _ in range(5):
        trainer.train_step()
    trainer.save_checkpoint(tmp_path / "five.safetensors")
    expected = [float(trainer.train_step()[0]) for _ in range(5)]
    resumed = trainer_on(folder, then)
    resumed.load_checkpoint(tmp_path / "five.safetensors")
    losses = [float(resumed.train_step()[0]) for _ in range(5)]
    assert losses == (expected if first == then else pytest.approx(expected, rel=1e-5))


def test_the_host_waits_for_nothing_inside_a_step(folder):
    trainer = trainer_on(folder, "cuda-sim", grad_accumulation_steps=2)
    trainer.train_step()
    before = sim.host_reads
    loss, norm = trainer.train_step()
    assert sim.host_reads == before
    assert type(loss) is type(norm) is sim.SimArray
    assert np.isfinite(float(loss)) and sim.host_reads == before + 1  # it would have been counted


def test_a_step_that_goes_bad_changes_nothing_and_is_told_at_the_next_log_line(folder):
    """Nor do the steps behind it, whose own numbers are sound."""
    trainer, clean = (trainer_on(folder, "cuda-sim", log_interval=4, eval_interval=90, save_interval=90) for _ in "ab")
    backward = trainer.backward
    trainer.backward = lambda loss, grad: backward(loss, grad * np.float32(np.inf if trainer.step == 5 else 1.0))
    with pytest.raises(FloatingPointError, match=r"at step 6; .*the weights are still those of step 5"):
        trainer.train()
    assert trainer.step == 5 and trainer.optimizer.steps_taken() == 5
    for _ in range(5):
        clean.train_step()
    for (name, p), (_, q) in zip(trainer.model.named_parameters(), clean.model.named_parameters(), strict=True):
        assert sim.asnumpy(p.data).tobytes() == sim.asnumpy(q.data).tobytes(), name


@pytest.mark.slow
def test_every_operations_gradient_on_the_device():
    """The whole table of `python -m minigrad.gradient_checking --device cuda-sim`, both kernel sets."""
    found = table.rows(device="cuda-sim")
    assert not [row.problem for row in found if row.problem]
    assert {row.dtype for row in found} == {"float64", "float32"}


def test_a_device_array_and_a_host_array_do_not_mix():
    x = sim.asarray(np.ones(3))
    for mixed in (lambda: x + np.ones(3), lambda: np.ones(3) * x, lambda: np.stack([x, np.ones(3)]),
                  lambda: np.asarray(x), lambda: gradcheck(lambda t: t, [x])):  # fmt: skip
        with pytest.raises(TypeError):
            mixed()


def test_new_memory_is_poisoned():
    assert np.isnan(np.empty(5, np.float32, like=sim.asarray(np.ones(1)))).all()


@pytest.mark.no_gpu
def test_no_gpu_is_said_in_one_line(folder):
    result = subprocess.run(
        [sys.executable, "train.py", "--device", "cuda", "--data", folder / "text.txt"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "cuda" in result.stderr and "--device cpu" in result.stderr


# ---------------------------------------------------------------------------------- batches fetched ahead


@pytest.mark.parametrize("changes", [{"grad_accumulation_steps": 2}, {"overfit_one_batch": True}], ids=str)
def test_threads_put_the_same_batches_on_the_device(folder, changes):
    plain, ahead = (trainer_on(folder, "cuda-sim", num_workers=n, **changes) for n in (0, 2))
    for _ in range(2):
        expected, found = plain.train_step(), ahead.train_step()
        assert [float(number) for number in found] == [float(number) for number in expected]
    for (name, p), (_, q) in zip(plain.model.named_parameters(), ahead.model.named_parameters(), strict=True):
        assert sim.asnumpy(p.data).tobytes() == sim.asnumpy(q.data).tobytes(), name


def test_the_host_waits_for_nothing_though_threads_fetch_the_batches(folder):
    """The ids are checked on the host: no operation reads them back."""
    trainer = trainer_on(folder, "cuda-sim", num_workers=2, grad_accumulation_steps=2)
    trainer.train_step()
    before = sim.host_reads
    trainer.train_step()
    trainer.train_step()
    assert sim.host_reads == before


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("wild", [2**40, -1, 99])
def test_an_index_outside_of_the_vocabulary_never_reaches_the_device(folder, part, wild, monkeypatch):
    """The step that needs the batch refuses it, as it does without threads."""
    started = []
    monkeypatch.setattr(
        Uploads, "start", lambda self, array, start=Uploads.start: started.append(array) or start(self, array)
    )
    for num_workers in (0, 2):
        trainer = trainer_on(folder, "cuda-sim", num_workers=num_workers)
        original = trainer.train_dataset.batch

        def batch(number, *args, original=original):
            arrays = original(number, *args)
            if number == 2:
                arrays[part][1, 3] = wild
            return arrays

        trainer.train_dataset.batch = batch
        trainer.train_step(), trainer.train_step()
        with pytest.raises(IndexError, match=rf"^(embedding: id|cross-entropy: target) {wild} is outside 0\.\.\d+$"):
            trainer.train_step()
        assert trainer.step == 2
    assert started and not any((array == wild).any() for array in started)


def test_a_step_that_goes_bad_sends_the_threads_back(folder):
    """The batches of the steps behind it are asked for once more, and the run goes on to the same weights."""
    trainer, clean = (trainer_on(folder, "cuda-sim", num_workers=2, log_interval=4, eval_interval=90, save_interval=90)
                      for _ in "ab")  # fmt: skip
    backward = trainer.backward
    trainer.backward = lambda loss, grad: backward(loss, grad * np.float32(np.inf if trainer.step == 1 else 1.0))
    with pytest.raises(FloatingPointError, match="at step 2"):
        trainer.train()
    trainer.backward = backward
    for each in (trainer, clean):
        while each.step < 3:
            each.train_step()
    for (name, p), (_, q) in zip(trainer.model.named_parameters(), clean.model.named_parameters(), strict=True):
        assert sim.asnumpy(p.data).tobytes() == sim.asnumpy(q.data).tobytes(), name


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_step_on_the_device_can_be_walked_through(folder, num_workers, monkeypatch, capsys):
    """`check` computes an operation again on the host, with ids that may be on the device."""
    monkeypatch.setattr("sys.stdin", io.StringIO("check\ngoto token_embedding\nshow ids\ncheck\ncontinue\n"))
    trainer = trainer_on(folder, "cuda-sim", num_workers=num_workers)
    step_backward(trainer, at_step=2, break_on="softmax_cross_entropy")
    said = capsys.readouterr().out
    assert said.count("agrees with finite differences") == 2, said
    assert "step 2 is complete: loss " in said
