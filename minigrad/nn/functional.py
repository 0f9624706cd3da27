"""`import minigrad.nn.functional as F`, as in PyTorch: the functions of `minigrad.functional`."""

from minigrad.functional import *  # noqa: F403  its __all__ lists what this is
