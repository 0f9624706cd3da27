"""Every command line's output: where it cannot be written that is one line, never Python's own complaint."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A command of the project in small: it prints, writes a warning, reads; argv[1] says how it goes on.
COMMAND = """
import os, sys
from kernels.system import cli, streams
from kernels.system.errors import UserError

@cli.command_line("prog")
def main():
    print(chr(233) * 10)
    streams.note("a warning")
    assert sys.stdin.read() == ""
    file = os.open(os.devnull, os.O_RDONLY)
    assert file > 2, "the number of a standard stream"
    if sys.argv[1] == "mistake":
        raise UserError("a mistake")
    if sys.argv[1] == "disk":
        raise OSError(28, "No space left on device", "a/file")
    if sys.argv[1] == "help":
        cli.Parser("prog").parse_args(["--help"])
    if sys.argv[1] == "much":
        print("x\\\\n" * 100000)
    return 0

sys.exit(main())
"""


def run(redirection, how="", before=""):
    """(exit status, stdout, stderr but for the warning) of COMMAND started by a shell with these redirections."""
    shell = f"{before} {sys.executable} -c '{COMMAND}' '{how}' {redirection}"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], cwd=ROOT, capture_output=True, timeout=60,
                            stdin=subprocess.DEVNULL)  # fmt: skip
    stderr = result.stderr.decode()
    assert "Traceback" not in stderr and "Exception ignored" not in stderr, stderr
    return result.returncode, result.stdout.decode("latin-1"), stderr.replace("a warning\n", "")


@pytest.mark.posix
@pytest.mark.parametrize("how", ["", "help", "much"])
def test_output_that_is_refused_is_one_line(how):
    assert run("> /dev/full", how) == (1, "", "prog: No space left on device: standard output\n")
    assert run(">&-", how) == (1, "", "prog: Bad file descriptor: standard output\n")
    assert run(">&- 2>&- <&-", how) == (1, "", "")
    assert run("> /dev/full 2> /dev/full", how) == (1, "", "")


@pytest.mark.posix
def test_a_reader_that_went_away_ends_a_command_as_it_ends_others():
    assert run("| true", "much") == (141, "", "")
    assert run("2>/dev/full | true", "much") == (141, "", "")


@pytest.mark.posix
def test_a_stderr_that_takes_nothing_changes_nothing():
    for closed in ("2> /dev/full", "2>&-"):
        assert run(closed)[0] == 0
        assert run(closed, "mistake")[0] == 2 and run(closed, "disk")[0] == 1
    assert run("", "disk") == (1, run("")[1], "prog: No space left on device: a/file\n")
    assert run("> /dev/full", "mistake") == (2, "", "prog: a mistake\n")


@pytest.mark.posix
def test_characters_that_the_encoding_lacks_are_escapes():
    utf8 = {"before": "PYTHONIOENCODING=utf-8"}
    assert run("", **utf8)[1] == "\xc3\xa9" * 10 + "\n"
    assert run("", before="PYTHONIOENCODING=latin-1")[1] == "\xe9" * 10 + "\n"
    assert run("", before="PYTHONIOENCODING=ascii")[1] == r"\xe9" * 10 + "\n"
    assert run("", before="PYTHONIOENCODING=ascii:replace")[1] == "?" * 10 + "\n"
    assert run("", before="LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0")[1] == r"\xe9" * 10 + "\n"
