"""The CPU kernels read nothing behind the arrays they are given, though they load whole registers of numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.linux


def run(what):
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    return subprocess.run([sys.executable, HERE / "guarded.py", what], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])
def test_kernels_read_nothing_behind_an_array(dtype):
    found = run(dtype)
    assert (found.returncode, found.stdout) == (0, "no crash\n"), found.stderr


def test_reading_behind_an_array_crashes():
    assert run("past-the-end").returncode < 0  # by a signal
