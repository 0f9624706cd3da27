"""tests/conftest.py on skips: a skip is allowed if a marker's requirement is missing; any other is a failure."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parent
SUPPLIES = """
SUPPLIES["here"] = Supply("what is here", lambda: True, "get here")
SUPPLIES["away"] = Supply("what is away", lambda: "SUPPLIED" in os.environ, "get away")
SUPPLIES["never"] = Supply("what no command gets", lambda: False)
"""
SUITE = """
import pytest

def test_runs(): pass

@pytest.mark.here
def test_here(): pass

@pytest.mark.away
def test_away(): pass

@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.never)])
def test_never(x): assert x == 1

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
@pytest.mark.away
def test_slow_away(): pass

@pytest.mark.xfail
def test_known_to_fail(): assert False
"""
BAD = """
import pytest

def test_no_marker(): pytest.skip("just so")

@pytest.mark.here
def test_supply_is_here(): pytest.importorskip("no_such_module")

@pytest.mark.skipif(True, reason="ad hoc")
def test_skipif(): pass
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """pytester, with that conftest.py and none of the settings of this run."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
    pytester.makeconftest((TESTS / "conftest.py").read_text() + SUPPLIES)
    pytester.makeini('[pytest]\naddopts = -ra -m "not slow"\nmarkers = slow: takes long\n')
    return pytester


def test_what_is_missing_is_left_out_and_run_once_it_is_there(suite, monkeypatch):
    suite.makepyfile(test_good=SUITE)
    first = suite.runpytest_inprocess()
    first.assert_outcomes(passed=3, skipped=2, deselected=2, xfailed=1)
    first.stdout.fnmatch_lines_random(
        ["*needs what is away: get away", "*needs what no command gets", "left out:*-m slow*"]
    )
    assert first.ret == 0

    again = suite.runpytest_subprocess("--left-out", "-n1")  # nothing was supplied; in processes, as `make test` runs
    assert again.ret == 1
    again.stdout.fnmatch_lines(["left out again: *get away"])

    monkeypatch.setenv("SUPPLIED", "1")
    rest = suite.runpytest_inprocess("--left-out", "-v")
    rest.assert_outcomes(passed=3, skipped=1, deselected=4)
    assert rest.ret == 0
    rest.stdout.fnmatch_lines([f"*::{name} PASSED*" for name in ("test_away", "test_slow", "test_slow_away")])


def test_a_skip_that_no_marker_explains_is_a_failure(suite):
    suite.makepyfile(test_bad=BAD)
    found = suite.runpytest_inprocess()
    found.assert_outcomes(failed=2, errors=1)
    reason = "skipped, but no marker in tests/conftest.py names what is missing: "
    found.stdout.fnmatch_lines_random([f"{reason}*just so", f"{reason}*no_such_module*", f"{reason}*ad hoc"])
    suite.makepyfile(test_module='import pytest\npytest.importorskip("no_such_module")\n')
    found = suite.runpytest_inprocess("test_module.py")
    assert found.ret == pytest.ExitCode.INTERRUPTED
    found.stdout.fnmatch_lines(["skipped as a whole; mark its tests instead:*"])


def test_what_a_test_selects_ends_with_it(suite):
    tests = "def test_one(): kernels.select('reference')\ndef test_two(): assert kernels.describe() == 'fast'\n"
    suite.makepyfile(test_select=f"import kernels\n{tests}")
    suite.runpytest_inprocess().assert_outcomes(passed=2)
