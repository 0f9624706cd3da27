"""docs/names.md: its program prints what it shows, and its table is that of minigrad/ambiguous.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.ambiguous import AMBIGUOUS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "names.md"
BEGIN, END = "<!-- from minigrad/ambiguous.py -->\n", "<!-- end -->"


def with_table(page):
    """The page with the table as it must be."""
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in AMBIGUOUS.items())
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n| call | instead |\n|---|---|\n{rows}\n{END}{rest.split(END)[1]}"


def test_the_table_is_the_one_that_calls_are_refused_by():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "python tests/test_names_page.py writes the table"


PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("program", "printed"), PROGRAMS, ids=["signatures"])
def test_a_program_prints_what_the_page_shows(program, printed):
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == (printed, "")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
