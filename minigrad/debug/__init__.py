"""Looking inside: stepping through backward, checking a live graph, finding where numbers went bad.

Nothing here costs anything until it is used; all of it is plain Python on the thread that calls it.
"""

from minigrad.debug.calls import check_mode

__all__ = ["check_mode"]
