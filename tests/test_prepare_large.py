"""200 MB of text: the memory that `prepare` takes with all its processes, and kills at random instants."""

import contextlib
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from test_prepare import children, contents, require_ended, start

from benchmarks import zipf_text

pytestmark = pytest.mark.slow
COMMAND = "import sys; from tiny_transformer_np.training.prepare import main; sys.exit(main())"
LARGE, KILLS = 200_000_000, 20


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    zipf_text.write_text(folder / "large.txt", LARGE)
    yield folder / "large.txt"
    shutil.rmtree(folder)


def asked(large, kind, processes):
    return [large, "--tokenizer", kind, "--processes", processes, "--out", f"{kind}{processes}"]


@pytest.mark.posix
def test_twenty_kills_change_no_byte(large):
    """Whenever a command comes to its end it begins anew, until all kills are made."""
    folder, rng = large.parent, random.Random(24)
    for processes in 1, 2:
        began = time.monotonic()
        with start(folder, *asked(large, "byte", processes), program=COMMAND) as process:
            assert process.communicate()[1] == "" or not process.returncode
        seconds = time.monotonic() - began
    whole = contents(folder / "byte1")
    assert contents(folder / "byte2") == whole and len(whole) == 2 + 2 * 12
    shutil.rmtree(folder / "byte2")
    kills = ends = 0
    while kills < KILLS or not ends:
        with start(folder, *asked(large, "byte", 2), program=COMMAND) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.1, 0.6) * seconds if kills < KILLS else None)
            started = children(process.pid)
            killed = process.poll() is None
            process.kill()
            require_ended(started, 2)
            assert killed or not process.returncode, process.communicate()
        kills += killed
        if not killed:
            ends += 1
            assert contents(folder / "byte2") == whole
            shutil.rmtree(folder / "byte2")


def resident(pid):
    """The most bytes of memory that a process has had so far."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


@pytest.mark.linux
def test_all_processes_take_less_than_1_GB(large):
    """While word pieces are learned, and then while they are encoded; each process at its peak."""
    peaks, corpus = {}, large.parent / "bpe2"
    with start(large.parent, *asked(large, "bpe", 2), program=COMMAND) as process:
        while process.poll() is None and not (corpus / "train-00001.json").exists():
            for pid in (process.pid, *children(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0), resident(pid))
            time.sleep(0.1)
        process.kill()
    assert len(peaks) == 4 and process.returncode < 0
    assert sum(peaks.values()) < 1e9, peaks
