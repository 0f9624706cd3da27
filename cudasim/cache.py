"""Where compiled files are kept: ~/.cache/cudasim, or a folder of this process where that cannot be used."""

import atexit
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Keep: TypeAlias = "Callable[[str, Callable[[str], object]], Path]"  # `keep` below, or another function like it


def keep(name: str, make: Callable[[str], object]) -> Path:
    """Path of the kept file of that name; where there is none, make(path) writes one."""
    path = (_folder() or temporary()) / name
    if not path.exists():
        handle, unfinished = tempfile.mkstemp(dir=path.parent)
        os.close(handle)
        try:
            make(unfinished)
            os.replace(unfinished, path)  # atomic: no process loads half a file
        except BaseException:
            os.unlink(unfinished)
            raise
    return path


def _folder() -> Path | None:
    """$XDG_CACHE_HOME/cudasim or ~/.cache/cudasim, made if need be; None unless it is this account's alone.

    Files there are loaded as code, so no other account may be able to write to it.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cudasim")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if private and os.access(folder, os.W_OK | os.X_OK) else None


@functools.cache
def temporary() -> Path:
    """A folder of this process alone, removed when it ends."""
    path, owner = Path(tempfile.mkdtemp(prefix="cudasim-")), os.getpid()

    @atexit.register
    def _remove() -> None:
        if os.getpid() == owner:  # and not a child that was forked since
            shutil.rmtree(path, ignore_errors=True)

    return path
