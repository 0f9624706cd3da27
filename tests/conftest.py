"""Before any test module is imported."""

import os

# Where two processes share the cores, as test runs often do, threads that wait must sleep: left spinning they take
# the cores from each other. Read when the OpenMP library is loaded, which PyTorch may do first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from minigrad import device

device.configure()  # one pool of threads, as in train.py
