"""Debugging: stepping through backward, checking the nodes of a graph, finding the first NaN or infinity.

All of it is plain Python on the thread that calls it, and costs nothing until it is used.
"""

from minigrad.debug.breakpoints import break_on
from minigrad.debug.explanations import explain, explanation
from minigrad.debug.nonfinite import BadTensor, find_nonfinite
from minigrad.debug.recorded_calls import check_mode
from minigrad.debug.stepping import Stats, Step, backward_steps
from minigrad.debug.verification import VerificationError, verify, verify_node

__all__ = [
    "BadTensor", "Stats", "Step", "VerificationError", "backward_steps", "break_on", "check_mode", "explain",
    "explanation", "find_nonfinite", "verify", "verify_node",
]  # fmt: skip
