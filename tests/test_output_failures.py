"""Failures of output during a run: it ends with the bits of an undisturbed run, and reports each failure once."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix
ROOT = Path(__file__).parent.parent
FLAGS = [
    "--n-layer", "1", "--n-embd", "8", "--n-head", "1", "--seq-len", "8", "--batch-size", "2", "--warmup-steps", "2",
    "--kernels", "reference", "--eval-interval", "3", "--save-interval", "3", "--log-interval", "1",
    "--sample-tokens", "12", "--no-preflight", "--max-steps", "6",
]  # fmt: skip
TEXT = "añ日\U0001f600 \n" * 60

# train.py; when it takes step $AT, the shell first does $MEANWHILE, in the run's folder. $PPID is train.py there.
TRAIN = """
import os, subprocess, sys
from tiny_transformer_np.training import __main__ as train
from tiny_transformer_np.training.trainer import Trainer
original = Trainer.train_step
def disturbed(trainer):
    if command := os.environ.get(f"MEANWHILE_{trainer.step + 1}"):
        subprocess.run(command, shell=True, check=True, cwd=trainer.run.path)
    return original(trainer)
Trainer.train_step = disturbed
sys.argv[0] = "train.py"
sys.exit(train.main())
"""

PICTURE, SAMPLES = {"loss.png"}, {"samples/step_000003.txt", "samples/step_000006.txt"}
FULL, ROOM = "mv metrics.jsonl saved; ln -s /dev/full metrics.jsonl", "mv saved metrics.jsonl"

#: what goes wrong -> (the command line, what stderr says once (None: nothing), files that cannot be what they would be)
CASES = {
    "Jupyter's backend": ("MPLBACKEND=module://matplotlib_inline.backend_inline $TRAIN", None, ()),
    "pictures with TeX": ("echo 'text.usetex: True' > matplotlibrc; $TRAIN", None, ()),
    "other fonts and sizes": ("printf 'font.size: 30\nsavefig.dpi: 10\nbackend: x\n' > matplotlibrc; $TRAIN", None, ()),
    "settings that are no text": ("printf '\\377' > rc; MATPLOTLIBRC=$PWD/rc $TRAIN", None, ()),
    "no place for settings": ("HOME=/dev/null MPLCONFIGDIR=/dev/null/x XDG_CACHE_HOME=/dev/null/x $TRAIN", None, ()),
    "a folder for the picture": ("MEANWHILE_2='mkdir loss.png' $TRAIN", "loss.png: Is a directory", PICTURE),
    "a file for the samples": ("MEANWHILE_2='touch samples' $TRAIN", "samples: ", {"samples", *SAMPLES}),
    "files of 28 KiB at most": ("bash -c 'ulimit -f 28; exec $TRAIN'", "loss.png: File too large", PICTURE),
    "a full disk for the rows": (f"MEANWHILE_2='{FULL}' $TRAIN", "whose rows are kept", {"metrics.jsonl"}),
    "a full disk for some rows": (f"MEANWHILE_2='{FULL}' MEANWHILE_5='{ROOM}' $TRAIN", "No space left on device", ()),
    "an ASCII stdout": ("PYTHONIOENCODING=ascii $TRAIN >out", None, ()),
    "no stdout": ("$TRAIN >&-", "standard output: Bad file descriptor", ()),
    "no stream at all": ("$TRAIN <&- >&- 2>&-", None, ()),
    "a full stdout": ("$TRAIN >/dev/full", "standard output: No space left on device", ()),
    "a reader of one line": ("{ $TRAIN; echo $? >status; } | head -1; exit $(cat status)", "Broken pipe", ()),
    "nohup": ("MEANWHILE_4='kill -HUP $PPID' nohup $TRAIN >out", None, ()),
    "a script's background": ("MEANWHILE_4='kill -INT $PPID' $TRAIN & wait $!", None, ()),
}  # fmt: skip
MORE_CASES = {
    "nothing": ("$TRAIN", None, ()),
    "a backend that is none": ("MPLBACKEND=nonsense $TRAIN", None, ()),
    "settings that are a folder": ("mkdir rc; MATPLOTLIBRC=$PWD/rc $TRAIN", None, ()),
    "a Latin-1 stdout": ("PYTHONIOENCODING=latin-1 $TRAIN >out", None, ()),
    "a locale without a character": ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $TRAIN >out", None, ()),
    "a full stdout and stderr": ("$TRAIN >/dev/full 2>/dev/full", None, ()),
    "no reader": ("{ $TRAIN; echo $? >status; } | true; exit $(cat status)", "Broken pipe", ()),
    "no reader, full stderr": ("{ $TRAIN 2>/dev/full; echo $? >status; } | true; exit $(cat status)", None, ()),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN)
    flags = " ".join([*FLAGS, "--data", str(folder / "text.txt"), "--out-dir", "run"])
    return {**os.environ, "PYTHONPATH": str(ROOT), "TRAIN": f"{sys.executable} {folder / 'train.py'} {flags}"}


def shell(command, environment, folder, **streams):
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams}
    return subprocess.run(["sh", "-c", command], env=environment, cwd=folder, text=True, timeout=300, **streams)


def bits(run):
    """Everything in a run's folder, by its name: bytes, but for metrics, from which the times are taken."""
    found = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    found = {name: path.read_bytes() for name, path in found.items()}
    rows = [json.loads(line) for line in found.get("metrics.jsonl", b"").splitlines()]
    times = ("tokens_per_second", "elapsed_seconds")
    return {**found, "metrics.jsonl": [{k: v for k, v in row.items() if k not in times} for row in rows]}


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    result = shell("$TRAIN", environment, folder)
    assert result.returncode == 0 and not result.stderr, result.stderr
    expected = bits(folder / "run")
    assert PICTURE | SAMPLES < set(expected) and len(expected["metrics.jsonl"]) == 8
    return expected


def same_but(run, expected, others=()):
    found = bits(run)
    for name in (found.keys() | expected.keys()) - set(others) - {"saved"}:
        assert found.get(name) == expected.get(name), name


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_CASES)])
def test_what_may_go_wrong_while_showing(name, environment, undisturbed, tmp_path):
    command, warning, others = (CASES | MORE_CASES)[name]
    result = shell(command, environment, tmp_path)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("nohup:")]
    assert len(lines) == (warning is not None), result.stderr
    assert warning is None or (warning in lines[0] and lines[0].endswith("; the run goes on"))
    same_but(tmp_path / "run", undisturbed, others)


@pytest.mark.parametrize("size", [(0, 0), (1, 1), None], ids=["0 x 0", "1 x 1", "gone"])
def test_terminals_of_any_size_and_ones_that_go_away(size, environment, undisturbed, tmp_path):
    """None: it is closed when the first line has come. A bar is drawn, whatever TERM and COLUMNS say."""
    import fcntl
    import pty
    import termios

    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *(size or (24, 80)), 0, 0))
    environment = {**environment, "TERM": "dumb", "COLUMNS": "many", "LINES": "-1"}
    with subprocess.Popen(["sh", "-c", "exec $TRAIN"], env=environment, cwd=tmp_path, stdin=terminal, stdout=terminal,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        while size is not None or not shown:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # the other side is closed
                break
        os.close(ours)
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    assert len(stderr.splitlines()) == (size is None) and ("Input/output error" in stderr) == (size is None), stderr
    same_but(tmp_path / "run", undisturbed)


#: what keeps a checkpoint from being written -> (the command line, what the one line says)
REFUSED = {
    "small files only": ("bash -c 'ulimit -f 4; exec $TRAIN'",
                         "File too large: run/checkpoints/best.safetensors; no checkpoint was written yet"),
    "a folder in its place": ("MEANWHILE_5='rm checkpoints/best*; mkdir checkpoints/best.safetensors' $TRAIN",
                              "Is a directory: run/checkpoints/best.safetensors; the last good checkpoint is "
                              "run/checkpoints/latest.safetensors, of step 3"),
    "the run deleted": ("MEANWHILE_5='rm -r ../run' $TRAIN", "; run/checkpoints/latest.safetensors is gone too"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_one_line(name, environment, undisturbed, tmp_path):
    command, says = REFUSED[name]
    result = shell(command, environment, tmp_path)
    assert result.returncode == 1, result.stderr
    *warnings, line = result.stderr.splitlines()
    assert line.startswith("train.py: ") and line.endswith(says) and len(warnings) <= 1, result.stderr
    assert (tmp_path / "run").exists() == (name != "the run deleted")
    if name == "a folder in its place":  # what was saved is enough to go on from
        (tmp_path / "run" / "checkpoints" / "best.safetensors").rmdir()
        result = shell(f"{sys.executable} {ROOT}/train.py --resume run", environment, tmp_path)
        assert result.returncode == 0, result.stderr
        same_but(tmp_path / "run", undisturbed)
