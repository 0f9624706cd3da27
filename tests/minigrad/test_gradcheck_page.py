"""docs/gradcheck.md: every example is run, and prints what the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import doc_sessions
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gradcheck.md").read_text(encoding="utf-8")
_EXAMPLE = r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
EXAMPLES = re.findall(_EXAMPLE, PAGE, re.M | re.S)
NEEDS = {"A function of PyTorch": [pytest.mark.pytorch], "A function of JAX": [pytest.mark.jax],
         "CuPy": [pytest.mark.gpu, pytest.mark.gpu_check]}  # fmt: skip


def test_every_section_with_code_is_among_the_examples():
    assert len(EXAMPLES) == PAGE.count("```python\n") == 6
    assert set(NEEDS) <= {title for title, *_ in EXAMPLES}


@pytest.mark.parametrize(
    "code,shown", [pytest.param(*each, id=title, marks=NEEDS.get(title, ())) for title, *each in EXAMPLES]
)
def test_an_example_prints_what_the_page_shows(code, shown, tmp_path):
    """Of a failure the page has the message, not the traceback."""
    is_test = "def test_" in code
    file = tmp_path / "test_example.py"
    file.write_text(code, encoding="utf-8")
    plugin = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "minigrad.pytest_plugin"] if is_test else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, *plugin, file], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    if is_test:
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
        return
    start = "minigrad.gradient_checking.results."
    printed = done.stdout + done.stderr.partition(start)[2]
    assert (done.returncode == 1) == shown.startswith("GradcheckError"), done.stderr
    assert not doc_sessions.differences(shown, printed), printed
