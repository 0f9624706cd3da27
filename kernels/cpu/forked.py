"""Kernels in a forked process raise an error where GNU's OpenMP would end the process.

A fork does not contain OpenMP's threads. GNU's OpenMP ends a process that uses them nevertheless, and a pool of
processes whose workers end in this way waits for ever.
"""

import importlib
import os
import weakref
from typing import Any, NoReturn

import numba

watched: weakref.WeakSet[Any] = weakref.WeakSet()  # all kernels
_lost = False  # whether this process was forked from one in which OpenMP's threads ran


def watch(kernel: Any) -> None:
    """Make this kernel raise in a fork of a process in which GNU's OpenMP has started its threads."""
    watched.add(kernel)
    if _lost:
        _disable(kernel)


def _has_threads() -> bool:
    """Whether GNU's OpenMP has started its threads, here or in the parent process."""
    try:
        layer = numba.threading_layer()
    except ValueError:  # no kernel was called: the fork starts threads of its own
        return False
    if layer != "omp":  # the other layers start their threads again
        return False
    return importlib.import_module("numba.np.ufunc.omppool").openmp_vendor == "GNU"


def _in_child() -> None:
    global _lost
    _lost = _has_threads()
    for kernel in watched if _lost else ():
        _disable(kernel)


def _disable(kernel: Any) -> None:
    """Forget the compiled code: a call then reaches `_refuse`, where Numba would compile. No call checks for forks."""
    kernel._reset_overloads()
    kernel._compile_for_args = _refuse


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError(
        "this process was forked from one in which kernels ran, and OpenMP's threads are not in it; start processes by "
        'spawn, multiprocessing.get_context("spawn"), or set NUMBA_THREADING_LAYER=workqueue before Python starts'
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
