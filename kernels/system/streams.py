"""The standard streams as a program finds them: closed, on a full disk, read by nobody, unable to hold a character."""

import contextlib
import io
import os
import sys
from typing import TextIO

#: what writing may raise: refused; closed; in the middle of another write, as a signal's handler may be; no stream
UNWRITABLE = (OSError, ValueError, RuntimeError, AttributeError)


def prepare() -> None:
    """Called first by every command line: no character, and no stream that was closed before, is a reason to fail.

    What a stream's encoding does not have is written as an escape, `\\xe9`. The number of a stream that is closed would
    be given to the next file that is opened, and be written into; /dev/null takes its place. Closed standard output
    stays one that refuses every write.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and not _is_open(descriptor):
            _place_null(descriptor, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            with contextlib.suppress(OSError, ValueError):  # what waits in it is flushed, and may be refused
                stream.reconfigure(errors="backslashreplace")


def note(line: str, end: str = "\n") -> None:
    """A line on stderr; one that takes none is no reason to stop."""
    if sys.stderr is not None:  # print would take stdout
        with contextlib.suppress(*UNWRITABLE):
            print(line, end=end, file=sys.stderr, flush=True)


def let_go(stream: TextIO) -> bool:
    """Flush a stream for the last time. Returns whether it took all.

    What it does not take is given up: Python would try again on its way out, and end with a traceback and status 120.
    """
    try:
        stream.flush()
    except UNWRITABLE:
        with contextlib.suppress(*UNWRITABLE):
            _place_null(stream.fileno(), os.O_WRONLY)
            stream.flush()
        return False
    return True


def refuses(stream: TextIO) -> bool:
    """Whether an error without a file's name may be this stream's: it still refuses, or keeps nothing to be refused."""
    return not let_go(stream) or getattr(stream, "write_through", False)  # python -u


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _place_null(descriptor: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
