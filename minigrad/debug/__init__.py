"""Looking inside: stepping through backward, checking a live graph, finding where numbers went bad.

Nothing here costs anything until it is used; all of it is plain Python on the thread that calls it.
"""

from minigrad.debug.calls import check_mode
from minigrad.debug.explain import explain, explanation
from minigrad.debug.nonfinite import BadTensor, find_nonfinite
from minigrad.debug.verify import VerificationError, verify, verify_node

__all__ = [
    "BadTensor", "VerificationError", "check_mode", "explain", "explanation", "find_nonfinite", "verify",
    "verify_node",
]  # fmt: skip
