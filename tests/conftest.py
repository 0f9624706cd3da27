"""Before any test module is imported."""

import os

# PyTorch brings the OpenMP runtime that Numba then shares, and it reads this when it is loaded: set too late, idle
# threads spin, and beside another busy process a step of a small model takes forty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
