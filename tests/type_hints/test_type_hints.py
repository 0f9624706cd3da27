"""The type hints, as a user's code meets them. mypy itself reads the two files beside this one in `make lint`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import user_code

ROOT = Path(__file__).parents[2]


def test_the_code_whose_types_are_checked_runs() -> None:
    user_code.run()


def mypy(path: Path) -> list[str]:
    """What mypy says of a file, line by line, with the settings of pyproject.toml; a person writes few hints."""
    settings = ["--no-error-summary", "--allow-untyped-defs", "--check-untyped-defs"]
    command = [sys.executable, "-m", "mypy", *settings, str(path)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.mypy
def test_the_tutorial_is_right_to_mypy(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in [*cell["source"], "\n"]]
    (tmp_path / "tutorial.py").write_text("".join(line for line in lines if not line.startswith("%")))
    assert mypy(tmp_path / "tutorial.py") == []


@pytest.mark.slow
@pytest.mark.mypy
def test_a_hint_that_is_too_wide_is_found(tmp_path: Path) -> None:
    """A call that is right, among those that mypy must refuse; and a type that the result does not have."""
    (tmp_path / "seeded.py").write_text(
        "from typing import assert_type\n\nimport minigrad as mg\n\n"
        "mg.sum(mg.ones(2), axis=0)  # type: ignore[call-arg]\n"
        "assert_type(mg.ones(2).sum(), float)\n"
    )
    unused, wrong = mypy(tmp_path / "seeded.py")
    assert 'seeded.py:5: error: Unused "type: ignore" comment' in unused
    assert 'seeded.py:6: error: Expression is of type "Tensor", not "float"' in wrong
