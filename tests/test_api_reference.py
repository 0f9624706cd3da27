"""`make docs`: the reference of minigrad is made from its docstrings, and has all that is public."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import minigrad
from minigrad import functional

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.docs
def test_the_reference_has_every_public_name(tmp_path):
    documented = re.search(r"^DOCUMENTED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    command = [sys.executable, "-m", "pdoc", "--no-show-source", "-o", str(tmp_path), *documented]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    # pdoc does not know which Tensor the fields of ValuesAndIndices are
    warnings = [line for line in made.stderr.splitlines() if "Warn" in line and "type annotation" not in line]
    assert made.returncode == 0 and not warnings, made.stderr
    for module in (minigrad, functional):
        name = module.__name__
        page = (tmp_path / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8")
        words = [word for word in module.__all__ if not isinstance(getattr(module, word), ModuleType)]
        missing = [word for word in words if f'id="{word}"' not in page]
        assert not missing, (name, missing)


@pytest.mark.parametrize("module", [minigrad, functional], ids=lambda module: module.__name__)
def test_every_public_function_says_what_it_does(module):
    silent = [name for name in module.__all__ if not getattr(module, name).__doc__]
    assert not silent, silent
