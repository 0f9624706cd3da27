"""gradcheck of JAX functions, in a process of its own: JAX starts threads for good, and other tests fork."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.jax
def test_functions_of_jax():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/minigrad/gradcheck_in_jax.py"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr
