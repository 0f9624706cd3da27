"""pdb for one backward function and its kernels, with the Python source of compiled kernels in place of them."""

import pdb
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np


class BackwardDebugger(pdb.Pdb):
    """pdb that stops in one backward function, in minigrad.ops and in kernels, not in the libraries that these call.

    Call the backward function right after `begin`: pdb stops at the first line of the function that is called next.
    """

    def __init__(self, backward: Callable[..., Any], stdin: Any = None, stdout: Any = None) -> None:
        super().__init__(stdin=stdin, stdout=stdout, nosigint=True)
        self.module = backward.__module__

    def stop_here(self, frame: FrameType) -> bool:
        name = frame.f_globals.get("__name__", "")
        stops_here = name == self.module or name.startswith(("minigrad.ops.", "kernels."))
        return stops_here and super().stop_here(frame)

    def begin(self) -> None:
        """Stop at the first line of the function that is called next."""
        self.reset()
        self._outer_trace = sys.gettrace()
        sys.settrace(self.trace_dispatch)

    def end(self) -> None:
        """Restore the trace function that `begin` replaced."""
        sys.settrace(self._outer_trace)


@contextmanager
def uncompiled_kernels() -> Iterator[None]:
    """Inside, the Python source of each compiled kernel (`.py_func`) runs in its place: slow, but pdb can step into it.

    Kernels call each other by the global names of their modules; those names are rebound.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("kernels.")]
    compiled = [
        (vars(module), name, value)
        for module in modules for name, value in vars(module).items() if hasattr(value, "py_func")
    ]  # fmt: skip
    for names, name, value in compiled:
        names[name] = value.py_func
    try:
        with np.errstate(all="ignore"):  # compiled code wraps integers and divides by 0 without a warning
            yield
    finally:
        for names, name, value in compiled:
            names[name] = value
