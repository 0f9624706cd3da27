"""Into a rule with pdb, and nowhere else; and compiled kernels as the plain Python that they were made from."""

import pdb
import sys
from contextlib import contextmanager

import numpy as np


class RuleDebugger(pdb.Pdb):
    """pdb for one rule: it stops in the rule's module, in other rules' helpers and in kernels, not in what they call.

    Where pdb was entered by `begin`, the next Python function to be called must be the rule.
    """

    def __init__(self, rule, stdin=None, stdout=None):
        super().__init__(stdin=stdin, stdout=stdout, nosigint=True)
        self.rule_module = rule.__module__

    def stop_here(self, frame):
        name = frame.f_globals.get("__name__", "")
        ours = name == self.rule_module or name.startswith(("minigrad.ops.", "kernels."))
        return ours and super().stop_here(frame)

    def begin(self):
        """Stop at the first line of the function that is called next."""
        self.reset()
        self._outer_trace = sys.gettrace()
        sys.settrace(self.trace_dispatch)

    def end(self):
        """Watch no longer."""
        sys.settrace(self._outer_trace)


@contextmanager
def plain_python():
    """Inside, compiled kernels are the Python functions that they were made from (`.py_func`): slow, to step through.

    Kernels call each other by the global names of their modules, so it is there that they are exchanged.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("kernels.")]
    compiled = [
        (vars(module), name, value)
        for module in modules for name, value in vars(module).items() if hasattr(value, "py_func")
    ]  # fmt: skip
    for names, name, value in compiled:
        names[name] = value.py_func
    try:
        with np.errstate(all="ignore"):  # as in compiled code, which counts modulo 2**32 and divides by 0 in silence
            yield
    finally:
        for names, name, value in compiled:
            names[name] = value
