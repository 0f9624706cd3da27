"""What `device.configure` sets for the whole process, as a fresh one sees it."""

import os
import re
import subprocess
import sys

import pytest

START = "from minigrad import device; device.configure(); import numba; numba.get_num_threads()"


@pytest.mark.parametrize(
    "given, spins",  # 50 us are from 1000 of Intel's long pauses to 20,000 of 10 cycles each
    [({}, range(500, 20001)), ({"GOMP_SPINCOUNT": "7"}, [7]), ({"OMP_WAIT_POLICY": "passive"}, [0])],
    ids=["by itself", "told how long", "told not to"],
)
def test_threads_without_work_go_to_sleep_soon(given, spins):
    """GCC's OpenMP says what it has read when it starts; it must start after `configure` has set it."""
    ours = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environ = {**ours, **given, "OMP_DISPLAY_ENV": "verbose"}
    started = subprocess.run([sys.executable, "-c", START], env=environ, capture_output=True, text=True, check=True)
    said = re.search(r"GOMP_SPINCOUNT = '(\d+)'", started.stderr)
    if said is None:
        pytest.skip("Numba uses other threads than GCC's OpenMP here")
    assert int(said[1]) in spins
