"""The plugin for people's own operations, in a pytest of its own: the fixture works, a failure explains itself."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import numpy as np
import minigrad as mg


def cube(x):
    return mg.record(x.data**3, (x,), cube_backward, x=x.data)


def cube_backward(dout, x):
    return -dout * 3.0 * x**2


def test_right(gradcheck):
    assert gradcheck(lambda x: x * x * x, [np.arange(1.0, 4.0)]).largest < 1e-9


def test_wrong(gradcheck):
    gradcheck(cube, {"x": np.arange(1.0, 4.0)})


def test_unrelated():
    assert 1 == 2
"""


def test_a_wrong_backward_function_is_explained_under_its_test(tmp_path):
    (tmp_path / "test_mine.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "minigrad.pytest_plugin", "-p", "no:cacheprovider", "-q", tmp_path]
    # loaded by name alone: where minigrad is installed its entry point would load it a second time
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout
    assert done.stdout.count("- gradient check -") == 1  # and none under the failure of another kind
    assert "likely cause  sign" in done.stdout
    assert '>       gradcheck(cube, {"x": np.arange(1.0, 4.0)})' in done.stdout  # it fails in the test's own line
    assert "likely cause: the sign is reversed" in done.stdout
    assert "minigrad/gradient_checking/" not in done.stdout  # the checker's own frames are left out


def test_pytest_finds_the_plugin_once_installed():
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["minigrad"]
    assert import_module(entry).gradcheck_fixture
