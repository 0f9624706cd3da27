"""What `runtime.configure` sets for the whole process, as a fresh one sees it."""

import itertools
import os
import re
import subprocess
import sys

import pytest

from kernels.cpu import spin_calibration
from minigrad import runtime

START = "from minigrad import runtime; runtime.configure(); import numba; numba.get_num_threads()"


@pytest.mark.linux  # there Numba comes with GCC's OpenMP
@pytest.mark.parametrize(
    "given, spins",  # 50 us are 1000 of Intel's long pauses, and some 60,000 where one takes three cycles
    [({}, range(500, 100_000)), ({"GOMP_SPINCOUNT": "7"}, [7]), ({"OMP_WAIT_POLICY": "passive"}, [0])],
    ids=["by itself", "told how long", "told not to"],
)
def test_threads_without_work_go_to_sleep_soon(given, spins):
    """GCC's OpenMP says what it has read when it starts; it must start after `configure` has set it."""
    ours = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environ = {**ours, **given, "OMP_DISPLAY_ENV": "verbose", "NUMBA_THREADING_LAYER": "omp"}
    started = subprocess.run([sys.executable, "-c", START], env=environ, capture_output=True, text=True, check=True)
    said = re.search(r"GOMP_SPINCOUNT = '(\d+)'", started.stderr)
    assert int(said[1]) in spins


def test_they_look_for_work_as_long_as_the_next_kernel_is_mostly_away(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")  # so that it is there again after the test
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(spin_calibration, "pauses_in", lambda seconds: round(seconds / 25e-9))
    runtime._wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "2000"


def test_pauses_are_counted_by_the_clock(monkeypatch):
    """By the shortest of some tries, here 25 ns a pause; the first one was held up."""
    ticks = itertools.chain.from_iterable(
        (i, i + took * spin_calibration._PAUSES) for i, took in enumerate([1e-6, 25e-9, 26e-9])
    )
    monkeypatch.setattr(spin_calibration.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(spin_calibration, "_pause_often", lambda n: None)
    monkeypatch.setattr(spin_calibration.time, "perf_counter", lambda: next(ticks))
    assert spin_calibration.pauses_in(50e-6) == 2000
