"""train.py and the sampling command as a user meets them: what they leave on disk, and how they refuse bad input."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.system import cli
from tiny_transformer_np import CharTokenizer, TrainingConfig, TransformerConfig, TransformerLM
from tiny_transformer_np.training import TextDataset, Trainer, checkpoint, memory
from tiny_transformer_np.training import __main__ as program
from tiny_transformer_np.training.run_folder import Run

ROOT = Path(__file__).parent.parent
TINY = [
    "--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "2", "--warmup-steps", "2",
    "--kernels", "reference", "--eval-interval", "4", "--log-interval", "2", "--sample-tokens", "5", "--no-preflight",
]  # fmt: skip


def run(*args, module=None):
    command = ["-m", module] if module else [str(ROOT / "train.py")]
    return subprocess.run(
        [sys.executable, *command, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """A run that went through, to be read but not changed."""
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run(*TINY, "--data", text, "--max-steps", 8, "--out-dir", out)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def refused(result, *words):
    """Exit status 2, one line on stderr that contains all words, no traceback."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert len(result.stderr.strip().split("\n")) == 1, result.stderr
    for word in words:
        assert str(word) in result.stderr, (word, result.stderr)


def test_a_run_leaves_everything_in_its_folder(finished):
    out, stdout = finished
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    train, evals = ([row for row in rows if row["kind"] == kind] for kind in ("train", "eval"))
    assert [row["step"] for row in train] == [1, 2, 4, 6, 8]
    assert [row["step"] for row in evals] == [4, 8]
    assert list(train[0]) == [
        "kind", "step", "loss", "perplexity", "lr", "grad_norm", "tokens_per_second", "elapsed_seconds",
    ]  # fmt: skip
    assert list(evals[0]) == ["kind", "step", "val_loss", "val_perplexity", "val_bits_per_byte"]
    best = min(row["val_bits_per_byte"] for row in evals)
    assert re.search(rf"^finished at step 8: best validation loss [\d.]+, {best:.4f} bits per byte$", stdout, re.M)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["step_000004.txt", "step_000008.txt"]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["best.safetensors", "latest.safetensors"]
    assert "step 8/8" in stdout and "kernels: reference" in stdout
    assert re.search(r"^memory    about [\d.]+ MB( of [\d.]+ [GT]B)?$", stdout, re.M)


def test_config_toml_is_complete_and_can_be_used_again(finished, text, tmp_path):
    out, _ = finished
    again = run("--config", out / "config.toml", "--out-dir", tmp_path / "again", "--no-preflight")
    assert again.returncode == 0, again.stderr
    for name in ("best", "latest"):
        name = f"checkpoints/{name}.safetensors"
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_flags_win_over_the_config_file(text, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("[model]\nn_layer = 3\nn_embd = 8\n[training]\nlearning_rate = 0.5\n")
    result = run(*TINY, "--config", config, "--data", text, "--max-steps", 1, "--out-dir", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    saved = (tmp_path / "run" / "config.toml").read_text()
    assert "n_layer = 1" in saved and "n_embd = 16" in saved and "learning_rate = 0.5" in saved


def test_resuming_a_finished_run_further(finished, text, tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    fixed_rate = ["--warmup-steps", 0, "--min-lr", "3e-4", "--learning-rate", "3e-4", "--data", text]
    assert run(*TINY, *fixed_rate, "--max-steps", 6, "--out-dir", long).returncode == 0
    assert run(*TINY, *fixed_rate, "--max-steps", 3, "--out-dir", short).returncode == 0
    resumed = run("--resume", short, "--max-steps", 6)
    assert resumed.returncode == 0 and "from step 3" in resumed.stdout, resumed.stderr
    first, second = (checkpoint.load(path / "checkpoints" / "latest.safetensors")[0] for path in (short, long))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_no_steps_asked_for_on_resume_are_none(finished):
    out, _ = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    result = run("--resume", out, "--max-steps", 0)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == f"--max-steps 0: nothing to train; {out} stays at step 8 of 8\n"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_word_pieces_and_a_limited_evaluation(text, tmp_path):
    out = tmp_path / "run"
    flags = ["--data", text, "--tokenizer", "bpe", "--vocab-size", 280, "--eval-tokens", 40, "--max-steps", 4]
    result = run(*TINY, *flags, "--out-dir", out)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert re.search(r"^data .*vocabulary 280 \(bpe, [2-9]\.\d\d bytes a token\)\n"
                     r" +validates on \d\d of \d\d tokens, in windows spread evenly; best means best on those$",
                     result.stdout, re.M), result.stdout  # fmt: skip
    config = (out / "config.toml").read_text()
    assert 'tokenizer = "bpe"' in config and "eval_tokens = 40" in config
    for flags in (["--eval-tokens", 0], ["--no-cross-documents"], ["--tokenizer", "byte"], ["--vocab-size", 290]):
        refused(run("--resume", out, *flags), "cannot change", "on resume")
    result = run("--resume", out, "--max-steps", 6, "--num-workers", 2)
    assert result.returncode == 0 and "from step 4" in result.stdout and result.stderr == "", result.stderr


def job(monkeypatch, tmp_path, *flags):
    """The TrainingConfig of a new run with these flags."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--out-dir", str(tmp_path / "run"), *flags])
    with contextlib.ExitStack() as claims:
        return program.new_job(program.parse_arguments(), claims)[2]


def test_a_device_asked_for_is_one_whose_kernels_run(monkeypatch, tmp_path, capsys):
    plain = ["--config", "tiny"]  # a config with kernels = "reference"
    assert job(monkeypatch, tmp_path, *plain).kernels == "reference"
    assert job(monkeypatch, tmp_path, *plain, "--device", "cpu").kernels == "reference"
    assert job(monkeypatch, tmp_path, *plain, "--device", "cuda-sim", "--kernels", "reference").kernels == "reference"
    assert capsys.readouterr().err == ""
    assert job(monkeypatch, tmp_path, *plain, "--device", "cuda-sim").kernels == "fast"
    assert "--device cuda-sim: its own kernels are used" in capsys.readouterr().err


def test_names_that_people_type_are_taken(monkeypatch, tmp_path):
    """Short names, nanoGPT's underscores, and switches with a value."""
    flags = [
        "--lr",
        "0.5",
        "--bs=3",
        "--ctx",
        "16",
        "--steps",
        "7",
        "--wd",
        "0",
        "--eval_interval=9",
        "--warmup_steps",
        "2",
    ]
    config = job(
        monkeypatch, tmp_path, *flags, "--cross_documents=False", "--overfit-one-batch=true", "--tokenizer", "bpe"
    )
    assert (config.learning_rate, config.batch_size, config.seq_len, config.max_steps) == (0.5, 3, 16, 7)
    assert (config.weight_decay, config.eval_interval, config.warmup_steps) == (0.0, 9, 2)
    assert not config.cross_documents and config.overfit_one_batch and config.tokenizer == "bpe"


def test_paths_are_kept_as_absolute_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = job(monkeypatch, tmp_path, "--data", "a.txt", "texts/*.md", "--tokenizer", "gpt2/tokenizer.json")
    assert config.data == (str(tmp_path / "a.txt"), str(tmp_path / "texts/*.md"))
    assert config.tokenizer == str(tmp_path / "gpt2/tokenizer.json")


@pytest.mark.parametrize(("given", "said"), [
    ("--n-layr 2", "unknown argument --n-layr; did you mean '--n-layer'?; see --help"),
    ("--batch_siz=2", "unknown argument --batch_siz=2; did you mean '--batch-size'?; see --help"),
    ("--max_iters=5", "unknown argument --max_iters=5; it is called --max-steps here; see --help"),
    ("--lr_decay_iters 5", "it is called --max-steps here: the learning rate falls up to there; see --help"),
    ("--num_train_epochs 3", "it is called --epochs here; see --help"),
    ("--beta2 0.99", "it is called --betas here: two numbers; see --help"),
    ("--compile=False", "there is no such setting: the kernels are compiled on their first use; see --help"),
    ("--lr_scheduler_type linear", "of --warmup-steps and --min-lr; see --help"),
    ("--weight-typing 3", "unknown argument --weight-typing; see --help"),  # not --weight-decay
    ("--xyz 3", "unknown argument --xyz; see --help"),
    ("--max_iters=5 --compile=False --n-layer=2 --block_size=4 --xyz", "unknown argument --max_iters=5; it is called "
     "--max-steps here; --compile does not exist, --block_size is --seq-len; see --help"),
    ("-lr 3", "unknown argument -lr; it is called --learning-rate here; see --help"),
    ("--bias True", "unknown argument True; a switch takes no value: write --bias or --no-bias; see --help"),
    ("a.txt 'b c.txt' --n-layer 2", "data are given as --data a.txt 'b c.txt'; see --help"),
    ("a.txt --lr 1", "unknown argument a.txt; data are given as --data a.txt; see --help"),
    ("--n-layer 2 folder", "data are given as --data folder; see --help"),
    ("no.txt", "unknown argument no.txt; data are given as --data FILE, settings as --name VALUE; see --help"),
    ("my.toml", "settings are given as --config my.toml; see --help"),
    ("config/train_shakespeare_char.py", "settings are read from TOML files: --config FILE.toml; see --help"),
    ("run", "a run is gone on with by --resume run; see --help"),
    ("--data -", "a run needs data that it finds again: "),
])  # fmt: skip
def test_unknown_arguments_get_a_hint_that_fits(given, said, monkeypatch, tmp_path, capsys):
    for name in ("a.txt", "b c.txt", "folder/x", "run/config.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *shlex.split(given)])
    with pytest.raises(SystemExit) as left:
        program.main()
    message = capsys.readouterr().err
    assert left.value.code == 2 and message.count("\n") == 1 and said in message, message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("device", "kernel_set", "warned"), [
    ("cuda-sim", "reference", True), ("cuda-sim", "fast", False), ("cpu", "reference", False)])  # fmt: skip
def test_plain_kernels_on_a_device_are_warned_of(device, kernel_set, warned):
    config = TrainingConfig(device=device, kernels=kernel_set, warmup_steps=0, seq_len=8, max_steps=3)
    model = TransformerLM(TransformerConfig(vocab_size=3, block_size=8, n_layer=1, n_head=1, n_embd=4))
    data = TextDataset(np.zeros(20, np.int64), CharTokenizer("abc"), 8)
    trainer = Trainer(model, data, data, dataclasses.replace(config, device="cpu"))
    trainer.config = config
    estimate = memory.of_run(model.config, config, (20, 20))
    text = program.describe(trainer, Run("runs/a"), kernel_set, 1, "float32", estimate)
    assert ("none of the CUDA kernels runs" in text) == warned and f"kernels: {kernel_set}" in text


def test_generating_from_a_run(finished):
    out, _ = finished
    args = (out, "--prompt", "the ", "--tokens", 20, "--kernels", "reference")
    first, second = (run(*args, "--top-k", 5, module="tiny_transformer_np.sampling") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout and first.stdout.startswith("the ") and len(first.stdout) == 4 + 20 + 1
    # with reference kernels: fast ones may be compiled first, which is said on stderr
    refused(run(*args[:1], *args[-2:], "--prompt", "é", module="tiny_transformer_np.sampling"), "'é'", "--prompt")
    refused(run(out, "--top-p", "1.5", module="tiny_transformer_np.sampling"), "--top-p", "1.5")
    refused(run("no/such/run", module="tiny_transformer_np.sampling"), "no/such/run")


def test_whoever_reads_the_text_may_stop_reading(finished):
    command = [sys.executable, "-m", "tiny_transformer_np.sampling", str(finished[0]), "--tokens", "100000",
               "--kernels", "reference"]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.read(5)
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == 141


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "no_such_file.txt"], ["no_such_file.txt", "No such file"]),
        (["--config", "no_such.toml"], ["no_such.toml"]),
        (["--n-embd", "30", "--n-head", "4"], ["n_embd 30", "n_head 4"]),
        (["--n-layr", "4"], ["--n-layr", "--n-layer"]),
        (["--n-layer", "four"], ["--n-layer", "four"]),
        (["--batch-size", "0"], ["batch_size is 0"]),
        (["--device", "cuda"], ["cuda", "--device cpu"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["--threads", "100000"], ["threads is 100000"]),
        (["--resume", "no/such/run"], ["no/such/run"]),
        (["--min-lr", "0.1"], ["min_lr 0.1"]),
    ],
)
def test_bad_flags_are_refused(args, words, tmp_path):
    out = ["--out-dir", tmp_path / "run"] if "--resume" not in args else []
    refused(run(*args, *out), *words)
    assert not (tmp_path / "run").exists()


def test_bfloat16_products_are_announced(text, tmp_path):
    result = run(*TINY, "--data", text, "--max-steps", 2, "--dtype", "bfloat16", "--out-dir", tmp_path / "run")
    assert result.returncode == 0 and "matrix products of bfloat16 numbers" in result.stdout, result.stderr
    result = run("--resume", tmp_path / "run", "--max-steps", 4, "--dtype", "float32")
    assert result.returncode == 0 and "matrix products of" not in result.stdout, result.stderr


@pytest.mark.compiler
def test_bfloat16_products_are_refused_where_there_are_none(text, tmp_path):
    job = [*TINY, "--data", text, "--max-steps", 2, "--dtype", "bfloat16", "--device", "cuda-sim"]
    refused(run(*job, "--out-dir", tmp_path / "run"), "bfloat16", "cuda-sim", "float32")
    assert not (tmp_path / "run").exists()


def test_bad_data_is_refused(tmp_path):
    for name, content, words in (
        ("empty.txt", b"", ["is empty"]),
        (
            "short.txt",
            b"abcdefghijkl",
            ["12 tokens, 10 to train on and the last tenth, 2, to", "seq_len 8", "at least 81"],
        ),
        ("latin1.txt", b"caf\xe9 " * 100, ["not UTF-8"]),
    ):
        (tmp_path / name).write_bytes(content)
        refused(run(*TINY, "--data", tmp_path / name, "--out-dir", tmp_path / "run"), *words)
    (tmp_path / "folder").mkdir()
    refused(run(*TINY, "--data", tmp_path / "folder", "--out-dir", tmp_path / "run"), "has no text", ".txt", "no files")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[model]\nn_layers = 2\n", ["n_layers", "did you mean 'n_layer'"]),
        ("[trainning]\nseed = 2\n", ["trainning"]),
        ("[training]\nseed = 'x'\n", ["seed", "int"]),
        ("[training]\nbetas = [0.9]\n", ["betas"]),
        ("[training\n", ["not valid TOML"]),
    ],
)
def test_bad_configs_are_refused(toml, words, tmp_path):
    config = tmp_path / "bad.toml"
    config.write_text(toml)
    refused(
        run("--config", config, "--out-dir", tmp_path / "run"), "bad.toml" if "betas" not in toml else "betas", *words
    )


def test_ctrl_c_before_training_is_one_line(capsys):
    def compiling():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        cli.command_line("train.py")(compiling)()
    assert left.value.code == 130 and capsys.readouterr().err == "train.py: interrupted\n"


def test_an_unwritable_out_dir_is_refused(text, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(run(*TINY, "--data", text, "--out-dir", tmp_path / "file" / "run"), "cannot write")
    refused(run(*TINY, "--data", text, "--out-dir", tmp_path / "file"), "cannot write")
    if os.getuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        refused(run(*TINY, "--data", text, "--out-dir", tmp_path / "locked" / "run"), "cannot write")


def test_a_run_is_never_overwritten(finished, text):
    out, _ = finished
    before = (out / "metrics.jsonl").read_bytes()
    refused(run(*TINY, "--data", text, "--out-dir", out), "holds a run already", "--resume")
    assert (out / "metrics.jsonl").read_bytes() == before


def test_damaged_and_foreign_checkpoints_are_refused(finished, text, tmp_path):
    out, _ = finished
    good = (out / "checkpoints" / "latest.safetensors").read_bytes()
    copy = tmp_path / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "config.toml").write_text((out / "config.toml").read_text())
    path = copy / "checkpoints" / "latest.safetensors"
    for damaged in (good[: len(good) // 2], good[:5], b"", good[:-40] + bytes([good[-40] ^ 1]) + good[-39:]):
        path.write_bytes(damaged)
        refused(run("--resume", copy), "latest.safetensors", "damaged")
    path.write_bytes(good)
    refused(run("--resume", copy, "--n-layer", 2), "n_layer", "on resume")
    refused(run("--resume", copy, "--learning-rate", 2), "learning_rate", "on resume")
    refused(run("--resume", copy, "--max-steps", 3), "max_steps 3")

    (copy / "config.toml").write_text((out / "config.toml").read_text().replace("n_layer = 1", "n_layer = 2"))
    refused(run("--resume", copy), "n_layer is 2 in", "trained with 1")
    (copy / "config.toml").write_text((out / "config.toml").read_text().replace("dropout = 0.0", "dropout = 0.5"))
    refused(run("--resume", copy), "dropout is 0.5 in", "trained with 0.0")
    (tmp_path / "other.txt").write_text(text.read_text().replace("q", "é"))
    (copy / "config.toml").write_text((out / "config.toml").read_text())
    refused(run("--resume", copy, "--data", tmp_path / "other.txt"), "made on other data", "other.txt changed")


@pytest.mark.parametrize("flag", ["--help"])
def test_help_is_grouped_and_names_every_field(flag):
    result = run(flag)
    assert result.returncode == 0
    for words in ("model:", "training:", "run:", "--n-layer", "--grad-accumulation-steps", "--overfit-one-batch"):
        assert words in result.stdout
