"""The sessions in the documentation, performed: `python tests/doc_sessions.py` writes what they print into its pages.

Three kinds of code block are performed, in a copy of the project, from the top of the page to its end:

    diff       a change to a file: its "-" lines become its "+" lines
    console    "$ " begins a shell command; after "(Pdb) " and "(backward) " stands what one types at its prompt
    text       if it begins with "F5 ": clicks, keys and debug console of VS Code, over the protocol that it speaks

Everything else in these blocks is output.
"""

import difflib
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dap_client import Debugger

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*(ROOT / "docs" / name for name in ("data.md", "debugging.md", "stepping.md")), ROOT / "cudasim" / "README.md"]
_BLOCK = re.compile(r"^```(diff|console|text)\n(.*?)^```$", re.M | re.S)
_PROMPT = re.compile(r"^(\((?:Pdb|backward)\) ?)(.*)\n", re.M)
_KEYS = {"F5": "continue", "F10": "next", "F11": "stepIn", "Shift+F11": "stepOut"}
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
_COMPILING = re.compile(r"^compiling .*\n", re.M)  # said only where the cache does not have it
_VARIES = [  # with the machine and the day
    (re.compile(r"[\d,]+ tokens/s"), "N tokens/s"),
    (re.compile(r"\d+:\d\d left"), "0:00 left"),
    (re.compile(r"\d+\.\d\d s$", re.M), "0.00 s"),
    (re.compile(r"\d+ threads"), "2 threads"),
    (re.compile(r"^memory    about .*$", re.M), "memory    about 91 MB of 16 GB"),
    (re.compile(r"^time      .*$", re.M), "time      0:01, 0.1 MB of text a second"),
    (re.compile(r"best at a step of \S+"), "best at some step"),
]


def performed(page, tree):
    """The page with the output of its blocks as it is now, one block after the other. tree: a copy of the project."""
    return _BLOCK.sub(lambda block: f"```{block[1]}\n{_perform(block[1], block[2], tree)}```", page)


def _perform(kind, text, tree):
    if kind == "diff":
        _change(text, tree)
        return text
    if kind == "console":
        return "".join(_command(part, tree) for part in re.split(r"^(?=\$ )", text, flags=re.M) if part)
    return _clicks(text, tree) if text.startswith("F5 ") else text


def _change(text, tree):
    """Apply a diff of one hunk: "--- path", then lines beginning with " ", "-" or "+"."""
    first, *lines = text.splitlines()
    path = tree / first.removeprefix("--- ")
    before, after = ("".join(line[1:] + "\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{path} has {source.count(before)} places like\n{before}"
    path.write_text(source.replace(before, after), encoding="utf-8")


def _command(text, tree):
    """A shell command with what is typed at its prompts -> the same with what it prints."""
    command, rest = text.removeprefix("$ ").split("\n", 1)
    typed = [match[2] for match in _PROMPT.finditer(rest)]
    process = subprocess.run(
        command, shell=True, cwd=tree, env=_environment(), input="".join(f"{line}\n" for line in typed), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    printed = iter(re.split(r"(\((?:Pdb|backward)\) )", _COMPILING.sub("", process.stdout)))
    shown = f"$ {command}\n{next(printed)}"
    for line, prompt, output in zip(typed, printed, printed, strict=False):  # the last prompt may meet the end of input
        shown += f"{prompt}{line}\n{output}"
    shown = shown if shown.endswith("\n") else shown + "\n"
    return shown.replace(f"{tree}/", "")


def _clicks(text, tree):
    """A session in VS Code. Below each line of what one does stands, indented, what one sees."""
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    title = lines[0].removeprefix("F5 ")
    (launch,) = [c for c in _launch_configurations() if c["name"] == title]
    shown = []
    with Debugger(tree / Path(launch["program"]).name, launch["args"], tree, env=_environment()) as debugger:
        points, thread, frame = {}, None, None
        for line in lines:
            shown.append(line)
            if line.startswith("F5 "):
                continue
            if match := re.fullmatch(r"breakpoint: (\S+), at `(.+?)`(?:, if `(.+)`)?", line):
                path, wanted, condition = match.groups()
                source = (tree / path).read_text(encoding="utf-8").splitlines()
                (number,) = [i for i, each in enumerate(source, 1) if each.strip() == wanted]
                points.setdefault(tree / path, []).append({"line": number, "condition": condition})
                debugger.set_breakpoints(tree / path, points[tree / path])
            elif line.startswith("> "):
                shown.append(_indented(debugger.evaluate(line[2:], frame)))
            elif line.startswith("call stack: "):
                named = {each["name"]: each for each in reversed(debugger.frames(thread))}  # the innermost wins
                frame = named[line.removeprefix("call stack: ")]
                shown.append(_indented(_place(frame, tree)))
            elif line == "start":
                debugger.start()
                thread, frame = debugger.stopped()
                shown.append(_indented(_place(frame, tree)))
            elif line in _KEYS:
                debugger.request(_KEYS[line], threadId=thread)
                thread, frame = debugger.stopped()
                shown.append(_indented(_place(frame, tree)))
            else:
                raise ValueError(f"nobody does this in VS Code: {line}")
    return "\n".join(shown).replace(f"{tree}/", "") + "\n"


def _place(frame, tree):
    path, line = Path(frame["source"]["path"]), frame["line"]
    text = path.read_text(encoding="utf-8").splitlines()[line - 1].strip()
    return f"{path.relative_to(tree)}:{line}, in {frame['name']}:  {text}"


def _indented(text):
    return "\n".join(f"    {line}" for line in text.splitlines())


def _launch_configurations():
    return json.loads((ROOT / ".vscode" / "launch.json").read_text(encoding="utf-8"))["configurations"]


def _environment():
    """`python` is the one that runs this, and what it prints is not cut to a terminal's width."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "COLUMNS": "120", "PYTHONPATH": "", "PYTHONBREAKPOINT": "pdb.set_trace"}


def differences(page, actual):
    """Lines of a page that are no longer so: [(line as it stands, line as it is now)].

    Numbers with a decimal point may differ by 1 %, or by 1e-5: their last digits are the machine's.
    """
    pairs = itertools.zip_longest(*(_normal(text).splitlines() for text in (page, actual)), fillvalue="(nothing)")
    return [(a, b) for a, b in pairs if not _same(a, b)]


def refreshed(page, actual):
    """The page as it is now, but for lines that only differ as `differences` allows: those stay as they stand."""
    lines, now = (text.splitlines(keepends=True) for text in (page, actual))
    before, after = ([_NUMBER.sub("0", _normal(line)) for line in text] for text in (lines, now))
    for i, j, size in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        for k in range(size):
            if _same(_normal(lines[i + k]), _normal(now[j + k])):
                now[j + k] = lines[i + k]
    return "".join(now)


def _normal(text):
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return text


def _same(a, b):
    a, b = (_NUMBER.split(re.sub(r" +", " ", line)) for line in (a, b))
    return len(a) == len(b) and all(map(_same_piece, a, b))


def _same_piece(a, b):
    if a == b or not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)) or a.isdigit():
        return a == b
    return math.isclose(float(a), float(b), rel_tol=1e-2, abs_tol=1e-5)


def copy_of_the_project(folder):
    """What a fresh clone would hold, in `folder`."""
    unwanted = shutil.ignore_patterns(".*", "runs", "build", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    return folder


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(f"doc_sessions.py: unknown argument {sys.argv[1]}; it takes none, and writes into the pages")
    for path in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            tree = copy_of_the_project(Path(folder).resolve() / "minigrad")
            page = path.read_text(encoding="utf-8")
            path.write_text(refreshed(page, performed(page, tree)), encoding="utf-8")
