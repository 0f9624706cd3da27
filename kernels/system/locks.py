"""Lock files: one process at a time holds one, until it lets go or dies."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kernels.system import files
from kernels.system.files import StrPath

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows, which mypy does not think of


_ATTEMPTS = 100  # to hold a folder while other processes create and remove it


_used: dict[str, int] = {}  # file that this process uses -> its descriptor


class Held(Exception):
    """Another process holds the lock file."""


@contextlib.contextmanager
def holding(path: StrPath) -> Iterator[bool]:
    """Hold the lock file `path`, made here and removed afterwards, during the block. Held if another process has it.

    Yields whether the system keeps others out. It does not where it has no such locks (Windows) or the file system
    refuses them (some network ones); then there is no file either. However a process dies, its lock is free again,
    and the file that it leaves behind means nothing.
    """
    file = _taken(path) if fcntl else None
    try:
        yield file is not None
    finally:
        if file is not None and not file.closed:  # closed in a forked child, which holds nothing
            with contextlib.suppress(OSError):
                if _is_at(file, path):
                    os.unlink(path)  # while it is held, so that nobody can have taken it
            file.close()


def use(path: StrPath) -> bool:
    """Hold an existing file together with other processes, until it ends or calls `release`: `unused` is False.

    Returns whether the file is there; one that is being removed under `unused` is waited for, and is not.
    """
    if not fcntl or os.path.realpath(path) in _used:
        return os.path.exists(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with contextlib.suppress(OSError):  # no locks on this file system
        fcntl.flock(file, fcntl.LOCK_SH)
    if not os.path.exists(path) or not os.path.samestat(os.fstat(file), os.stat(path)):
        os.close(file)
        return False
    _used[os.path.realpath(path)] = file
    return True


def release(path: StrPath) -> None:
    """Use a file no more."""
    if (file := _used.pop(os.path.realpath(path), None)) is not None:
        os.close(file)


@contextlib.contextmanager
def unused(path: StrPath) -> Iterator[bool]:
    """During the block no process begins to `use` the file; yields whether none does already, as far as is known."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        yield True  # nothing that could be used
        return
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    except OSError:  # no locks on this file system
        free = True
    try:
        yield free
    finally:
        os.close(file)


def hold_folder(claims: contextlib.ExitStack, folder: StrPath, name: str, new: bool = False) -> tuple[list[Path], bool]:
    """Until `claims` is closed the folder exists, and this process holds its lock file of that name. Held as `holding`.

    A missing folder is created, and removed again if it is empty afterwards; new: FileExistsError, and nothing is
    locked, if it existed before. Returns the folders that were made for this, outermost first, and whether the system
    keeps others out.
    """
    folder = Path(folder)
    for attempt in range(_ATTEMPTS):
        with contextlib.ExitStack() as attempted:
            try:
                made = attempted.enter_context(files.folders(folder))
                if new and folder not in made:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
                locked = attempted.enter_context(holding(folder / name))
            except FileNotFoundError:  # another process created and removed it meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            claims.push(attempted.pop_all())
            return made, locked
    raise AssertionError


def _taken(path: StrPath) -> BinaryIO | None:
    """The open and locked file; None where the file system has no locks."""
    while True:
        file = open(path, "ab", buffering=0, opener=_open)  # noqa: SIM115  closed by `holding`
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Held(path) from None
        except OSError:
            file.close()
            os.unlink(path)
            return None
        if _is_at(file, path):
            os.register_at_fork(after_in_child=file.close)  # or a child that outlives this process would keep the lock
            return file
        file.close()  # removed by its last holder between our two calls


def _open(path: str, flags: int) -> int:
    """No link is followed out of the folder, and no pipe of that name waits for a reader."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _is_at(file: BinaryIO, path: StrPath) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
