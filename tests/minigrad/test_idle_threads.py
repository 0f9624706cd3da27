"""Threads are settled by the first kernel, or by `runtime.configure` before it, as a fresh process sees it."""

import itertools
import os
import re
import subprocess
import sys

import pytest

import minigrad as mg
from kernels.cpu import spin_calibration, threads

CONFIGURED = "from minigrad import runtime; runtime.configure(); import numba; numba.get_num_threads()"
FIRST_KERNEL = """
import sys, threading
import numpy as np
import minigrad as mg

if "numba" in sys.modules:
    sys.exit("importing minigrad imports the compiler")
x, numbers = mg.tensor(np.ones((4, 8), np.float32)), []

def compute():
    import numba
    mg.linear(x, x)  # asks for the number of threads before it is launched
    numbers.append(numba.get_num_threads())

def in_a_thread():
    one = threading.Thread(target=compute)
    one.start()
    one.join()
"""


def said_by(code, **given):
    """What a fresh process prints on stdout and stderr: what GCC's OpenMP read when it started is among the latter."""
    names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"
    environ = {name: value for name, value in os.environ.items() if name not in names}
    environ |= {**given, "OMP_DISPLAY_ENV": "verbose", "NUMBA_THREADING_LAYER": "omp"}
    started = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr[-2000:]
    return started.stdout, started.stderr


@pytest.mark.linux  # there Numba comes with GCC's OpenMP
@pytest.mark.parametrize(
    ("code", "given", "spins"),  # 50 us are 1000 of Intel's long pauses, and some 60,000 where one takes three cycles
    [
        (CONFIGURED, {}, range(500, 100_000)),
        (FIRST_KERNEL + "compute()", {}, range(500, 100_000)),
        (FIRST_KERNEL + "in_a_thread()", {}, range(500, 100_000)),
        (FIRST_KERNEL + "compute()", {"GOMP_SPINCOUNT": "7"}, [7]),
        (FIRST_KERNEL + "in_a_thread()", {"OMP_WAIT_POLICY": "passive"}, [0]),
    ],
    ids=["configured", "first kernel", "first kernel in a thread", "told how long", "told not to"],
)
def test_threads_without_work_go_to_sleep_soon(code, given, spins):
    """OpenMP says what it has read when it starts; it must start after that was set, by whoever calls a kernel first.

    A step of a small network took 78 ms beside other programs, and 1 ms after a call that no page mentioned.
    """
    said = re.search(r"GOMP_SPINCOUNT = '(\d+)'", said_by(code, **given)[1])
    assert int(said[1]) in spins


@pytest.mark.linux
@pytest.mark.two_threads
@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({"OMP_NUM_THREADS": "1,4"}, 1),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 2),
        pytest.param({"NUMBA_NUM_THREADS": "1"}, 1, marks=pytest.mark.slow),
        pytest.param({"OMP_NUM_THREADS": "500"}, None, marks=pytest.mark.slow),
    ],
)
def test_the_environment_says_how_many_threads_there_are(given, number):
    code = FIRST_KERNEL + "before = mg.get_num_threads(); compute(); in_a_thread(); print(before, *numbers)"
    most = len(os.sched_getaffinity(0))
    assert said_by(code, **given)[0].split() == [str(number or most)] * 3


@pytest.mark.linux
@pytest.mark.two_threads
def test_a_number_that_was_chosen_holds_in_every_thread_and_is_not_undone():
    """Numba keeps a number for each thread; a first kernel must not put back what the program chose before or since."""
    code = (
        FIRST_KERNEL
        + """
from minigrad import runtime
import numba
runtime.configure(threads=1)
compute(); in_a_thread()          # 1 1
mg.set_num_threads(2)
compute(); in_a_thread()          # 2 2
numba.set_num_threads(1)          # by a program that knows Numba
compute(); in_a_thread()          # 1 2
print(*numbers)
"""
    )
    assert said_by(code)[0].split() == list("112212")
    alone = FIRST_KERNEL + "import numba; numba.set_num_threads(1); compute(); compute(); print(*numbers)"
    assert said_by(alone)[0].split() == ["1", "1"]  # chosen before the first kernel


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (0, ValueError, "the number of threads is 0; expected 1 to"),
        (-1, ValueError, "the number of threads is -1; expected 1 to"),
        (10**6, ValueError, "1000000; expected 1 to [0-9]+, which is"),
        (1.0, TypeError, "the number of threads is 1.0; expected an integer"),
        (True, TypeError, "the number of threads is True"),
        ("2", TypeError, "the number of threads is '2'"),
    ],
)
def test_a_number_of_threads_that_cannot_be_is_refused(number, error, message):
    before = mg.get_num_threads()
    with pytest.raises(error, match=message):
        mg.set_num_threads(number)
    assert mg.get_num_threads() == before


def test_they_look_for_work_as_long_as_the_next_kernel_is_mostly_away(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")  # so that it is there again after the test
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(spin_calibration, "pauses_in", lambda seconds: round(seconds / 25e-9))
    threads.wait_briefly()
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
