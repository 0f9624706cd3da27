"""What .ci/run builds on."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_requirement_has_a_lowest_version():
    """.ci/lowest.py pins each, for the stage that runs the suite with those."""
    command = [sys.executable, ".ci/lowest.py", "pyproject.toml"]
    pins = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(pins) == len(project["dependencies"]) + len(project["optional-dependencies"]["dev"])
    assert "numpy==2.0" in pins and not [pin for pin in pins if ">" in pin]
