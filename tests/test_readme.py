"""The documentation's commands work as shown: README's example, a session in pdb, and the flags of every command."""

import re
import shlex
import sys
from pathlib import Path

import doc_sessions
import pytest

from tiny_transformer_np.sampling import __main__ as sampling
from tiny_transformer_np.training import __main__ as training
from tiny_transformer_np.training import prepare

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def without_line_numbers(text):
    """The lines of a session, without comments, and without what the machine and the lines of the code decide."""
    text = re.sub(r"\.py\(\d+\)", ".py(N)", re.sub(r"^memory .*", "memory", text, flags=re.MULTILINE))
    text = re.sub(r"^device .*", "device", text, flags=re.MULTILINE)
    return [line.split("  #")[0].rstrip() for line in text.splitlines()]


@pytest.mark.posix
@pytest.mark.pdb
def test_the_session_in_pdb_shows_what_the_page_shows(tmp_path):
    tree = doc_sessions.copy_of_the_project(tmp_path.resolve() / "minigrad")
    page = (ROOT / "docs" / "stepping.md").read_text(encoding="utf-8")
    (session,) = re.findall(r"^```console\n.*?^```\n", page, re.M | re.S)
    now = doc_sessions.performed(session, tree)
    lines = iter(without_line_numbers(now))
    missing = [line for line in without_line_numbers(session) if line not in lines]  # each behind the one before
    assert not missing, f"{missing[0]!r} is not in\n{now}"
    assert "***" not in now and "preflight ok" not in now  # no command is refused; it stops in training


def test_the_example_prints_what_the_readme_shows(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    exec(code, {})
    (shown,) = re.findall(r"^print\(.*\)  # (.*)$", code, re.M)
    assert capsys.readouterr().out == shown + "\n"


def test_every_link_leads_to_a_file():
    links = [
        (page, link) for page in PAGES for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 40
    assert not [(page, link) for page, link in links if not (page.parent / link).exists()]


def commands(module, script=None):
    """(page, flags) of every command in the pages that starts this module, or the script."""
    start = rf"-m {re.escape(module)}" + (rf"|(?:-m pdb )?{re.escape(script)}" if script else "")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for flags in re.findall(rf"(?:^    (?:[^\n`#]*\| )?|^\$ |`)python (?:{start})(?![\w.])([^\n`#|]*)", text, re.M):
            yield page, shlex.split(flags)


def test_every_flag_of_a_training_command_is_one(monkeypatch):
    shown = list(commands("tiny_transformer_np.training", "train.py"))
    assert len(shown) > 15
    for page, flags in shown:
        monkeypatch.setattr(sys, "argv", ["train.py", *flags])
        try:
            training.parse_arguments()
        except SystemExit as left:
            assert left.code == 0, (page, flags)  # --help


@pytest.mark.parametrize(
    ("command", "least", "parse"),
    [
        ("tiny_transformer_np.training.prepare", 4, prepare.parse_arguments),
        ("tiny_transformer_np.sampling", 2, sampling.arguments),
    ],
)
def test_every_flag_of_another_command_is_one(command, least, parse, monkeypatch):
    shown = list(commands(command))
    assert len(shown) >= least
    for _, flags in shown:
        monkeypatch.setattr(sys, "argv", [command, *flags])
        parse()
