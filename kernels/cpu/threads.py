"""How many threads the kernels run on, and how these wait for work: settled by the first kernel, whoever calls it.

`select` chooses for the whole process; Numba itself keeps a number for each thread that calls kernels, so each takes
the choice over before its first kernel. A number that a program gives Numba afterwards stays. Importing this module
imports no compiler.
"""

import os
import threading
from typing import Any

_SECONDS_AWAKE = 50e-6  # a thread waits this long for work before it sleeps; the next kernel mostly comes sooner


class _Thread(threading.local):
    settled = -1  # the number of the choice that this thread has taken over


thread = _Thread()
choice = 0  # counts the calls of `select`
_selected = None  # the number of threads; None before the first call
_how_to_wait_is_set = False
_settling: Any = threading.RLock()  # Any: the method below is not a public one
if hasattr(os, "register_at_fork"):  # the thread that held it is not in the fork
    os.register_at_fork(after_in_child=_settling._at_fork_reinit)


def available() -> int:
    """How many threads the kernels can have: one a core that this process may use, or NUMBA_NUM_THREADS."""
    return _of_environment("NUMBA_NUM_THREADS") or cores()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default() -> int:
    """How many threads the kernels have unless `select` says otherwise: OMP_NUM_THREADS may lower `available`.

    NUMBA_NUM_THREADS, which is of these threads alone, counts before it.
    """
    asked = None if _of_environment("NUMBA_NUM_THREADS") else _of_environment("OMP_NUM_THREADS")
    return min(asked or available(), available())


def selected() -> int:
    """How many threads kernels run on that this thread calls."""
    if thread.settled == choice:
        import numba

        return numba.get_num_threads()
    return _selected or default()


def select(number: int) -> None:
    """Let kernels run on so many threads, `available()` at most, whichever thread calls them."""
    global _selected, choice
    with _settling:
        _selected, choice = number, choice + 1


def settle() -> None:
    """Before the first kernel of the process: how threads wait. Before the first of a thread: how many there are.

    To be called where `thread.settled != choice`.
    """
    global _how_to_wait_is_set
    import numba

    with _settling:
        if not _how_to_wait_is_set:
            wait_briefly()  # OpenMP reads it when Numba starts its threads, which the next line does
            _how_to_wait_is_set = True
        number = min(numba.get_num_threads(), default()) if _selected is None else _selected
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
        thread.settled = choice


def get_num_threads() -> int:
    """`numba.get_num_threads()` after `settle`."""
    import numba

    if thread.settled != choice:
        settle()
    return numba.get_num_threads()


def wait_briefly() -> None:
    """Let idle threads of GCC's OpenMP sleep soon: a thread that spins takes its core from other programs.

    Two trainings of a small model on the same cores are 1.4 to 3 times as fast with it. OpenMP reads GOMP_SPINCOUNT,
    the number of pauses before a thread sleeps, when Numba starts its threads. The user's own setting is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        from kernels.cpu import spin_calibration

        os.environ["GOMP_SPINCOUNT"] = str(spin_calibration.pauses_in(_SECONDS_AWAKE))


def _of_environment(name: str) -> int | None:
    """The positive integer that an environment variable begins with (OMP_NUM_THREADS may list levels); else None."""
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None
