"""Forged checkpoints at the command lines: one line, status 2, and the run folder as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_transformer_np.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "tests" / "released" / "text.txt"
STRANGE = "\x1b[31\x9b\u202e\r"  # characters that a vocabulary may have and that no terminal should get


def layers(arrays, meta):
    meta["model"]["n_layer"] = 10**9


def step(arrays, meta):
    meta["step"] = -1


def shape(arrays, meta):
    arrays["model.ln_final.weight"] = arrays["model.ln_final.weight"][:-1]


def infinite(arrays, meta):
    arrays["adamw.v.ln_final.weight"][0] = float("inf")


def name(arrays, meta):
    arrays[STRANGE] = arrays["model.ln_final.weight"]


def logits(arrays, meta):  # finite weights whose products are not
    arrays["model.blocks.0.attn.qkv.weight"] *= 1e30


COMMANDS = {
    "sampling": ["-m", "tiny_transformer_np.sampling", "{file}", "--kernels", "reference"],
    "resume": ["train.py", "--resume", "{run}", "--data", str(TEXT), "--max-steps", "9"],
    "post-mortem": ["train.py", "--post-mortem", "{file}", "--data", str(TEXT)],
    "step-backward": ["train.py", "--resume", "{file}", "--step-backward", "--data", str(TEXT)],
    "compare_steps": ["-m", "minigrad.compare_steps", "kernels=reference,checkpoint={run}", "--save", "{run}/trace"],
}


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(ROOT / "tests" / "released" / "0.1.0", tmp_path / "run"))


def rewrite(path, change):
    arrays, meta = checkpoint.load(path)
    change(arrays, meta)
    checkpoint.save(path, arrays, meta)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("command", "change", "said"),
    [("sampling", layers, "it has no array model.blocks.2.ln1.weight"),
     ("sampling", logits, "its logits are not finite"),
     ("resume", step, "its step is -1"), ("resume", logits, "its logits are not finite"),
     ("post-mortem", shape, "its array model.ln_final.weight has shape (7,)"),
     ("step-backward", infinite, "adamw.v.ln_final.weight is not finite"),
     ("compare_steps", name, r"it has an array '\x1b[31\x9b\u202e\r'")],
)  # fmt: skip
def test_one_line_and_nothing_changed(run, command, change, said):
    file = run / "checkpoints" / "latest.safetensors"
    rewrite(file, change)
    (run / "checkpoints" / "best.safetensors").unlink()
    before = contents(run)
    words = [word.format(file=file, run=run) for word in COMMANDS[command]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert str(file) in done.stderr and not done.stdout
    assert contents(run) == before


@pytest.mark.posix
def test_control_characters_are_escaped_on_a_terminal_and_left_alone_in_a_pipe(run):
    file = run / "checkpoints" / "best.safetensors"

    def foreign(arrays, meta):
        meta["tokenizer"]["vocabulary"] = STRANGE + meta["tokenizer"]["vocabulary"][len(STRANGE) :]

    rewrite(file, foreign)
    words = [sys.executable, "-m", "tiny_transformer_np.sampling", file, "--prompt", STRANGE, "--tokens", "200",
             "--kernels", "reference", "--temperature", "9"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    piped = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert piped.returncode == 0 and piped.stdout.decode().startswith(STRANGE), piped.stderr

    ours, theirs = os.openpty()
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        assert process.wait(120) == 0, process.stderr.read()
    os.close(ours)
    shown = shown.decode().replace("\r\n", "\n")  # the terminal's own line breaks
    assert shown.startswith(r"\x1b[31\x9b\u202e\r") and not set("\x1b\x9b\u202e\r") & set(shown)
