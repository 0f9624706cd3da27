"""With the cyclic garbage collector off, a run of train.py holds the same memory at step 300 as at step 200.

Before, the allocator still settles: over the first 200 steps it grows by one to two megabytes, in jumps.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Runs train.py with the collector off and prints the resident bytes after steps 200 and 300: argv is ARGS...
MEASURED = """
import gc, resource, runpy, sys
from tiny_transformer_np.training.trainer import Trainer
gc.disable()
original = Trainer.train_step
def measured(trainer):
    result = original(trainer)
    if LEAK:
        trainer.kept = [*getattr(trainer, "kept", []), bytearray(100_000)]
    if trainer.step in (200, 300):
        pages = int(open("/proc/self/statm").read().split()[1])
        print("resident", trainer.step, pages * resource.getpagesize(), flush=True)
    return result
Trainer.train_step = measured
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def growth(leak, out_dir):
    """Bytes by which the default model's training grew from step 200 to step 300."""
    flags = ["--max-steps", "300", "--eval-interval", "1000", "--sample-tokens", "0", "--no-preflight",
             "--out-dir", str(out_dir)]  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", f"LEAK = {leak}\n{MEASURED}", *flags],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    resident = {
        line.split()[1]: int(line.split()[2]) for line in result.stdout.splitlines() if line.startswith("resident")
    }
    return resident["300"] - resident["200"]


@pytest.mark.linux
@pytest.mark.slow
def test_memory_does_not_grow_without_the_collector(tmp_path):
    assert abs(growth(False, tmp_path / "run")) < 1 << 20


@pytest.mark.linux
@pytest.mark.slow
def test_the_measurement_sees_a_leak(tmp_path):
    assert growth(True, tmp_path / "run") > 4 << 20
