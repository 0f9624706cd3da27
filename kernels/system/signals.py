"""Signals that ask a program to stop."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def asking_to_stop(stop: Callable[[signal.Signals], object], names: Sequence[str] = STOPPING) -> Iterator[None]:
    """During the block Ctrl-C, SIGTERM and SIGHUP call stop(signal); after one of them Ctrl-C interrupts at once.

    One that was ignored when the process started stays ignored, as `nohup` and a script's `&` mean it.
    """
    before = {}

    def handle(number: int, frame: Any) -> None:
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop(signal.Signals(number))

    with suppress(ValueError):  # not the main thread: signals are another's
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: a handler that is not Python's
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
