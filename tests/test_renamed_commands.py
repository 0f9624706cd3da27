"""A command that has a new name answers to its old one with a line that says so."""

import shlex
import subprocess
import sys

import pytest

from minigrad import compare_steps

RENAMED = {
    "minigrad.diff": "minigrad.compare_steps",
    "minigrad.gradcheck": "minigrad.gradient_checking",
    "kernels.cuda.sim": "cudasim",
    "kernels.cuda.gates": "cudagates",
}


@pytest.mark.parametrize("old", RENAMED)
def test_the_old_command_prints_the_new_one_with_its_arguments(old):
    words = [sys.executable, "-m", old, "kernels=fast", "a file"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
    prog, command = done.stderr.split(": this command is now ")
    words = shlex.split(command)
    assert prog == f"python -m {old}" and words[-4:] == ["-m", RENAMED[old], "kernels=fast", "a file"]


@pytest.mark.parametrize("old", RENAMED)
def test_an_import_of_the_old_module_names_the_new_one(old):
    with pytest.raises(ImportError, match=f"^{old} is now {RENAMED[old]}$"):
        __import__(old)


def test_the_default_step_exists():
    """Its name is a string, which no import checks."""
    assert callable(compare_steps.load_step(compare_steps.TRAINING_STEP))
