"""The memory that a run of train.py holds: it does not grow as training goes on, and little for a large text.

The allocator takes memory in jumps of one to two megabytes, the last of them about step 300.
"""

import itertools
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import data, processes, zipf_text

ROOT = Path(__file__).parent.parent
MB = 1_000_000

# Runs train.py and prints the resident bytes after the steps of STEPS, when all that is due there is done, and last the
# peak: argv is ARGS...
MEASURED = """
import gc, resource, sys
from benchmarks.memory_estimate import peak_resident
from tiny_transformer_np.training import __main__ as train
from tiny_transformer_np.training.trainer import Trainer
original = Trainer._report
def measured(trainer, *args):
    original(trainer, *args)
    if LEAK:
        trainer.kept = [*getattr(trainer, "kept", []), bytearray(100_000)]
    if trainer.step in STEPS:
        pages = int(open("/proc/self/statm").read().split()[1])
        print("resident", pages * resource.getpagesize(), flush=True)
Trainer._report = measured
if not COLLECTOR:
    gc.disable()
sys.argv[0] = "train.py"
status = train.main()
print("resident", peak_resident())
sys.exit(status)
"""


def resident(out_dir, steps, *flags, leak=False, collector=True):
    """Resident bytes of a run after each of `steps`, and its peak."""
    settings = f"STEPS, LEAK, COLLECTOR = {set(steps)}, {leak}, {collector}\n"
    result = subprocess.run(
        [sys.executable, "-c", settings + MEASURED, *map(str, flags), "--out-dir", str(out_dir)],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("resident")]


def growth(leak, out_dir):
    """Bytes by which ten steps of training grow, with the collector off; an activation is 196 KB.

    It is the median of the ten times ten steps from step 200 on: among them are one or two of the allocator's jumps.
    """
    flags = ["--n-layer", 2, "--n-embd", 64, "--max-steps", 310, "--eval-interval", 1000, "--sample-tokens", 0,
             "--no-preflight"]  # fmt: skip
    found = resident(out_dir, range(200, 310, 10), *flags, leak=leak, collector=False)[:-1]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(found))


@pytest.mark.linux
@pytest.mark.slow
def test_memory_does_not_grow_without_the_collector(tmp_path):
    assert abs(growth(False, tmp_path / "run")) < 100_000


@pytest.mark.linux
@pytest.mark.slow
def test_the_measurement_sees_a_leak(tmp_path):
    assert growth(True, tmp_path / "run") > 400_000


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize("collector", [True, False], ids=["collector at its default", "collector off"])
def test_memory_is_flat_from_the_second_evaluation_to_the_tenth(tmp_path, collector):
    """Each one draws the picture and a sample; the eleventh is the last step, which every run evaluates."""
    flags = ["--max-steps", 55, "--eval-interval", 5, "--sample-tokens", 50, "--no-preflight"]
    found = resident(tmp_path / "run", range(5, 55, 5), *flags, collector=collector)[:-1]
    assert len(found) == 10 and max(found[1:]) - min(found[1:]) < 2 * MB, [round(n / MB, 1) for n in found]


def write_text(path, n_bytes, of):
    """About so many bytes of lines that hardly repeat themselves."""
    rng = random.Random(path.name)
    with open(path, "w", encoding="utf-8") as file:
        while n_bytes > 0:
            text = "".join(f"{of} {rng.getrandbits(40)}\n" for _ in range(1000))
            n_bytes -= len(text.encode())
            file.write(text)
    return path


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "of",
    [
        pytest.param("The quick brown fox.", id="one byte a character"),
        pytest.param("The quick \U0001f600 fox.", id="one of four bytes among them"),
        pytest.param("日本語の文章。", id="three bytes a character"),
    ],
)
def test_a_text_takes_20_MB_more_at_most_however_long(tmp_path, monkeypatch, of):
    """From the start to the end of a run: it is tokenized, into the cache, and looked through by preflight."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = ["--n-layer", 1, "--n-embd", 8, "--n-head", 1, "--seq-len", 32, "--batch-size", 2, "--warmup-steps", 1,
             "--kernels", "reference", "--max-steps", 2, "--sample-tokens", 0,
             "--val-data", write_text(tmp_path / "val.txt", 100_000, of)]  # fmt: skip
    found = []
    for name, n_bytes in (("small", 1 * MB), ("large", 60 * MB)):
        path = write_text(tmp_path / name, n_bytes, of)
        found.append(most_anonymous(tmp_path / f"run-{name}", *flags, "--data", path))
    assert found[1] - found[0] <= 20 * MB, [round(n / MB, 1) for n in found]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """{name: folder} of prepared text: 1 MB and 200 MB of bytes, and the larger one so often that it takes 3 GB."""
    folder = tmp_path_factory.mktemp("corpora")
    val = zipf_text.write_jsonl(folder / "val.jsonl", 100_000, seed=1)
    for name, n_bytes in (("1 MB", 1 * MB), ("200 MB", 200 * MB)):
        text = zipf_text.write_jsonl(folder / f"{name}.jsonl", n_bytes)
        prepare = [sys.executable, "-m", "tiny_transformer_np.training.prepare", text, "--val-data", val, "--tokenizer",
                   "byte", "--out", folder / name]  # fmt: skip
        subprocess.run(prepare, cwd=ROOT, check=True, capture_output=True, timeout=600)
        text.unlink()
    n_bytes = sum(path.stat().st_size for path in (folder / "200 MB").glob("train-*.bin"))
    data.repeated(folder / "200 MB", folder / "3 GB", -(-3000 * MB // n_bytes))
    return {name: folder / name for name in ("1 MB", "200 MB", "3 GB")}


def most_anonymous(out_dir, *flags, setup=""):
    """The most resident bytes that belong to no file which a run of train.py held, from its start to its end."""
    program = f"import sys\n{setup}\nfrom tiny_transformer_np.training.__main__ import main\nsys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, flags), "--out-dir", str(out_dir)]
    most = 0
    with open(f"{out_dir}.log", "w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while process.poll() is None:
            most = max(most, processes.anonymous(process.pid))
            time.sleep(0.005)
        log.seek(0)
        assert process.returncode == 0, log.read()
    return most


TRAINED = ["--n-layer", 2, "--n-embd", 64, "--n-head", 2, "--seq-len", 64, "--batch-size", 8, "--max-steps", 40,
           "--eval-interval", 20, "--num-workers", 2, "--sample-tokens", 0]  # fmt: skip


@pytest.mark.linux
@pytest.mark.slow
def test_a_corpus_of_any_size_takes_20_MB_more_at_most(corpora, tmp_path):
    """Checksums, preflight, workers, evaluation and checkpoints included."""
    found = {name: most_anonymous(tmp_path / name, *TRAINED, "--data", path) for name, path in corpora.items()}
    assert max(found.values()) - found["1 MB"] <= 20 * MB, {name: round(n / MB, 1) for name, n in found.items()}


COPIES_IT = """
import numpy as np
from tiny_transformer_np.training.dataset import TextDataset
original = TextDataset.__init__
def copying(dataset, tokens, *args, **kwargs):
    original(dataset, np.asarray(tokens), *args, **kwargs)
TextDataset.__init__ = copying
"""


@pytest.mark.linux
@pytest.mark.slow
def test_the_measurement_sees_a_copy_of_the_corpus(corpora, tmp_path):
    flags = {name: [*TRAINED, "--data", corpora[name]] for name in ("1 MB", "200 MB")}
    found = [most_anonymous(tmp_path / name, *each, setup=COPIES_IT) for name, each in flags.items()]
    assert found[1] - found[0] > 200 * MB, [round(n / MB, 1) for n in found]
