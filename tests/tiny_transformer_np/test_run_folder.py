"""The folder of a run: claimed by one process, nothing of anybody else's touched, nothing left behind."""

import dataclasses
import datetime
import errno
import os
from contextlib import ExitStack

import pytest

from kernels.system import cache, locks
from tiny_transformer_np import ConfigError
from tiny_transformer_np.config import TrainingConfig, TransformerConfig
from tiny_transformer_np.training import run_folder as run_module
from tiny_transformer_np.training.run_folder import LOCK, NAMES, Run, default_run, require_trained_with

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
MODEL, TRAINING = TransformerConfig(), TrainingConfig(learning_rate=0.5, min_lr=0.25)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_one_process_claims_a_run(tmp_path):
    run = Run(tmp_path / "runs" / "a")
    with run.claimed():
        assert names(run.path) == [LOCK] and run.locked
        with pytest.raises(ConfigError, match=f"another process is training {run.path}"), Run(run.path).claimed():
            pass
        run.create(MODEL, TRAINING)
    assert names(tmp_path) == ["runs", "runs/a", "runs/a/config.toml"]
    with Run(run.path).claimed():  # to go on with it
        pass
    assert names(run.path) == ["config.toml"]


@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt, SystemExit])
def test_a_run_that_is_refused_after_its_claim_leaves_nothing(tmp_path, error):
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "runs" / "a", tmp_path / "mine"):
        with pytest.raises(error), Run(path).claimed():
            raise error
    assert names(tmp_path) == ["mine"]


def test_default_names_are_taken_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a-20260102-030405-3").mkdir(parents=True)  # somebody's
    with ExitStack() as claims:
        runs = [default_run(claims, "a", NOW) for _ in range(3)]
        assert [run.path.name for run in runs] == [f"a-20260102-030405{n}" for n in ("", "-2", "-4")]
        runs[0].create(MODEL, TRAINING)
    assert names(tmp_path / "runs") == ["a-20260102-030405", "a-20260102-030405-3", "a-20260102-030405/config.toml"]


def test_a_folder_that_its_maker_removes_while_another_claims_it(tmp_path, monkeypatch):
    holding, vanished = locks.holding, []

    def late(path):
        if len(vanished) < 3:
            vanished.append(path.parent.rmdir())
        return holding(path)

    monkeypatch.setattr(run_module.locks, "holding", late)
    with Run(tmp_path / "runs" / "a").claimed() as run:
        assert len(vanished) == 3 and names(tmp_path / "runs") == ["a", f"a/{LOCK}"] and run.locked
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "said"), [("file", "Not a directory"), ("file/run", "Not a directory"), ("x" * 300, "name too long"),
                       ("dangling/run", "No such file")]
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, path, said):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=f"cannot write to .*{said}"), Run(tmp_path / path).claimed():
        pass
    assert names(tmp_path) == ["dangling", "file"]


def test_a_full_disk_is_no_mistake_of_the_folder_s_name(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(run_module.locks, "holding", full)
    with pytest.raises(OSError, match="No space left"), Run(tmp_path / "run").claimed():
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_holds_a_name_of_a_run_is_no_place_for_a_new_one(tmp_path, name):
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(ConfigError, match=name if name != "config.toml" else "a run already; use --resume"):
        Run(tmp_path).require_unused()
    (tmp_path / name).unlink()
    for other in ("notes.txt", LOCK, ".config.toml.7-0123abcd.partial"):  # the last two: of a start that was killed
        (tmp_path / other).touch()
    Run(tmp_path).require_unused()


def test_what_kills_left_is_removed_and_nothing_else(tmp_path):
    ours = [".config.toml.7-0123abcd.partial", "samples/.step_000004.txt.7-0123abcd.partial", "config.toml.partial",
            "checkpoints/.latest.safetensors.7-0123abcd.partial", "checkpoints/.tmpAb3xYz",
            "checkpoints/latest.safetensors.partial", "checkpoints/.post_mortem_000012.safetensors.7-0123abcd.partial",
            ]  # fmt: skip
    mine = ["mine.partial", "checkpoints/mine.partial", "samples/mine/.config.toml.7-0123abcd.partial", ".tmpAb3xYz",
            "samples/.latest.safetensors.7-0123abcd.partial", "checkpoints/latest.safetensors", "notes.txt.partial",
            ]  # fmt: skip
    for name in (*ours, *mine):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "metrics.jsonl.partial").mkdir()
    run = Run(tmp_path)
    run.clean()  # not claimed: they may be another process's
    assert all((tmp_path / name).exists() for name in ours)
    with run.claimed():
        run.clean()
    left = [name for name in names(tmp_path) if not (tmp_path / name).is_dir()]
    assert left == sorted(mine) and (tmp_path / "metrics.jsonl.partial").is_dir()


def test_without_locks_a_run_says_so_and_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(cache, "_said", set())
    for _ in range(2):
        with Run(tmp_path / "run").claimed() as run:
            run.create(MODEL, TRAINING)
            assert not run.locked
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and f"no locks for {run.path}" in err
    assert names(tmp_path) == ["run", "run/config.toml"]


def test_a_setting_that_makes_another_run_is_named(tmp_path):
    run = Run(tmp_path)
    trained = {"model": dataclasses.asdict(MODEL), "training": {**dataclasses.asdict(TRAINING), "betas": [0.9, 0.95]}}
    require_trained_with(run, (MODEL, TRAINING), ("c", {}, trained))
    moved = dataclasses.replace(TRAINING, data=("elsewhere.txt",), max_steps=7, dtype="bfloat16")
    require_trained_with(run, (MODEL, moved), ("c", {}, trained))
    for name in ("eps", "verify_every"):  # an earlier version's, which did not have them: their defaults
        del trained["training"][name]
    require_trained_with(run, (MODEL, moved), ("c", {}, trained))
    for model, training, said in (
        (MODEL, dataclasses.replace(moved, batch_size=7), "batch_size is 7 in .* trained with 32"),
        (dataclasses.replace(MODEL, dropout=0.5), moved, "dropout is 0.5 in .* trained with 0.0"),
    ):
        with pytest.raises(ConfigError, match=said):
            require_trained_with(run, (model, training), ("c", {}, trained))
