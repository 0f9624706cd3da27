"""The CPU kernels read nothing behind the arrays they are given, though they load whole registers of numbers."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import pairs

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="memory is protected by Linux's system call")


def run(what):
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    return subprocess.run([sys.executable, HERE / "guarded.py", what], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_read_nothing_behind_an_array(dtype):
    if dtype == "bfloat16" and not pairs.HAS_BFLOAT16:
        pytest.skip("this processor has no instruction for bfloat16")
    found = run(dtype)
    assert (found.returncode, found.stdout) == (0, "no crash\n"), found.stderr


def test_reading_behind_an_array_crashes():
    assert run("past-the-end").returncode < 0  # by a signal
