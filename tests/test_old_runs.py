"""What people trained with a released version goes on with this one: its own run is resumed, sampled and evaluated."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_transformer_np.config import RENAMED, ConfigError, load_toml
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training.build_trainer import build_trainer
from tiny_transformer_np.training.run_folder import Run, find, stored_configs

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "tests" / "released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir() if path.is_dir())


@pytest.fixture
def run(request, tmp_path):
    return Path(shutil.copytree(RELEASED / request.param, tmp_path / "run"))


def python(*args):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_first_release_is_here():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("run", VERSIONS, indirect=True)
def test_it_is_resumed_and_sampled(run):
    before = rows(run)
    done = python("train.py", "--resume", run, "--data", RELEASED / "text.txt", "--max-steps", "9")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "from step 6" in done.stdout and "finished at step 9" in done.stdout
    after = rows(run)
    assert "eval_tokens = 0" in (run / "config.toml").read_text()  # all, as it began
    assert after[: len(before)] == before and after[-1]["kind"] == "eval" and after[-1]["step"] == 9
    assert checkpoint.load(run / "checkpoints" / "latest.safetensors")[1]["step"] == 9

    text = (RELEASED / "text.txt").read_text()
    done = python(
        "-m", "tiny_transformer_np.sampling", run, "--prompt", "old ", "--tokens", "20", "--kernels", "reference"
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("old ") and len(done.stdout) == 25 and set(done.stdout) <= set(text)


@pytest.mark.parametrize("run", VERSIONS, indirect=True)
def test_it_is_evaluated_as_its_version_did(run):
    """To rounding: the sums of another processor's products have other last bits."""
    model_config, config = stored_configs(Run(run))
    config = dataclasses.replace(config, data=(str(RELEASED / "text.txt"),))
    trainer = build_trainer(dataclasses.asdict(model_config), config)
    path, arrays, meta = find(run)[0].newest()
    trainer.restore(path, arrays, meta)
    assert trainer.evaluate() == pytest.approx(rows(run)[-1]["val_loss"], rel=1e-5)
    assert trainer.train_step()[0] > 0.0


def test_a_renamed_setting_is_read_with_a_note(tmp_path, monkeypatch, capsys):
    """In a config file and in a checkpoint; RENAMED has an entry of its own here."""
    run = Path(shutil.copytree(RELEASED / "0.1.0", tmp_path / "run"))
    monkeypatch.setitem(RENAMED["training"], "rate", "learning_rate")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("learning_rate = ", "rate = "))
    assert load_toml(run / "config.toml")["training"]["learning_rate"] == 1e-2
    note = capsys.readouterr().err
    assert note == f"note: config {run / 'config.toml'}: rate is called learning_rate now\n"

    arrays, meta = checkpoint.load(run / "checkpoints" / "latest.safetensors")
    meta["training"]["rate"] = meta["training"].pop("learning_rate")
    checkpoint.save(run / "checkpoints" / "latest.safetensors", arrays, meta)
    checkpoint.load(run / "checkpoints" / "latest.safetensors")
    assert not capsys.readouterr().err  # the next checkpoint has the new name

    (run / "config.toml").write_text(text.replace("learning_rate = ", "learning_rate = 1e-2\nrate = "))
    with pytest.raises(ConfigError, match="has both rate and learning_rate, its new name; remove rate"):
        load_toml(run / "config.toml")
