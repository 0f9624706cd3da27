"""Kernels in a process that was forked: what they raise there, in place of what GNU's OpenMP does.

The threads that share a kernel's work are not in the fork. GNU's OpenMP ends a process that asks for them all the same,
and a pool of processes whose workers end so waits for ever.
"""

import os
import weakref

import numba

watched = weakref.WeakSet()  # all kernels
_lost = False  # whether this process was forked from one in which those threads ran


def watch(kernel):
    """Have this kernel raise in a fork of a process in which GNU's OpenMP had started its threads."""
    watched.add(kernel)
    if _lost:
        _disable(kernel)


def _has_threads():
    """Whether GNU's OpenMP was started, here or in the process that was forked."""
    try:
        layer = numba.threading_layer()
    except ValueError:  # no kernel was called: the fork will start threads of its own
        return False
    if layer != "omp":  # the other layers start theirs again
        return False
    from numba.np.ufunc import omppool

    return omppool.openmp_vendor == "GNU"


def _in_child():
    global _lost
    _lost = _has_threads()
    for kernel in watched if _lost else ():
        _disable(kernel)


def _disable(kernel):
    """Forget what was compiled, so that a call ends where Numba would compile: no other call has to look for forks."""
    kernel._reset_overloads()
    kernel._compile_for_args = _refuse


def _refuse(*args, **kwargs):
    raise RuntimeError(
        "this process was forked from one in which kernels ran, and OpenMP's threads are not in it; start processes by "
        'spawn, multiprocessing.get_context("spawn"), or set NUMBA_THREADING_LAYER=workqueue before Python starts'
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
