"""Before any test module is imported."""

import os

# Where two processes share the cores, as test runs often do, threads that wait must sleep: left spinning they take
# the cores from each other. Read when the OpenMP library is loaded, which PyTorch may do first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONUNBUFFERED", None)  # programs that a test starts print as a user's do

import pytest

from minigrad import device, random

device.configure()  # one pool of threads, as in train.py


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Every test starts at the same place of the random tape, whichever ran before it."""
    random.seek(0)
