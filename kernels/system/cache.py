"""Folders for what can be made again: compiled kernels above all, which run as whoever loads them.

Another account that could write there, or had made the folder first, would run its code as us. So a folder is used only
if it is real, ours and not writable by others, and if nobody else can exchange it or a folder above it. Every entry
ends with a checksum: a power cut, a full disk or a kill may have left part of one, which counts as none.

A cache is never needed: where there is none, or no room in it, one line on stderr says so, and things are made again.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kernels.system import streams
from kernels.system.files import StrPath

NAME = "minigrad"
_SEAL = hashlib.sha256().digest_size
COMPILED = "what is compiled now is compiled again at the next start"
_said: set[str] = set()  # the lines printed so far


def folder(name: str, without: str = COMPILED) -> Path | None:
    """This account's cache folder of that name, such as "gates"; made if need be. None if there is none to be trusted.

    It lies in $XDG_CACHE_HOME/minigrad or ~/.cache/minigrad, else in minigrad-UID in the folder for temporary files.
    without: what it costs to have none, for the line on stderr.
    """
    complaints = []
    for place, ours in _candidates():
        try:
            return _made(_made(Path(os.path.realpath(place)) / ours) / name)
        except OSError as error:
            complaints.append(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    why = "; ".join(complaints) or "there is neither a home nor a folder for temporary files"
    say(f"no cache, so {without} ({why})")
    return None


@functools.cache
def temporary() -> Path:
    """A folder of this process alone, removed when it ends: for what must lie in a file and found no place in a cache.

    Raises OSError where the system has no folder for temporary files.
    """
    path, owner = Path(tempfile.mkdtemp(prefix=f"{NAME}-")), os.getpid()

    @atexit.register
    def _remove() -> None:
        if os.getpid() == owner:  # and not a child that was forked since
            shutil.rmtree(path, ignore_errors=True)

    return path


def read(path: StrPath) -> bytes | None:
    """The content of an entry, bytes; None if there is none. What is not a whole one of ours is removed."""
    try:
        with open(path, "rb", opener=_open_without_following) as file:
            status = os.fstat(file.fileno())
            whole = stat.S_ISREG(status.st_mode) and status.st_uid == _account(status) and file.read()
    except FileNotFoundError:
        return None
    except OSError:
        whole = b""
    if whole and whole[-_SEAL:] == _seal(path, whole[:-_SEAL]):
        return whole[:-_SEAL]
    with contextlib.suppress(OSError):
        os.unlink(path)
    return None


def write(path: StrPath, content: bytes, without: str = COMPILED) -> bool:
    """Keep an entry, whole or not at all, and return whether it could be kept; one line on stderr says why not.

    32 bytes of a checksum stand behind the content in its file, where readers of shared libraries do not look.
    """
    path = Path(path)
    try:
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(content + _seal(path, content))
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise
    except OSError as error:
        say(f"{path.parent}: {error.strerror}; {without}")
        return False
    return True


def say(line: str) -> None:
    """One line on stderr, the first time only."""
    if line not in _said:
        _said.add(line)
        streams.note(f"{NAME}: {line}")


def _candidates() -> Iterator[tuple[Path, str]]:
    """(a folder that may be shared, the name of ours in it), best first."""
    place = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if place.is_absolute():  # its standard has all others ignored
        yield place, NAME
    else:
        with contextlib.suppress(RuntimeError):  # no HOME, and no passwd entry that names one
            if os.path.isabs(home := Path.home()) and os.path.isdir(home):
                yield home / ".cache", NAME
    with contextlib.suppress(OSError):  # no folder for temporary files
        yield Path(tempfile.gettempdir()), f"{NAME}-{os.geteuid() if hasattr(os, 'geteuid') else 'cache'}"


def _made(path: Path) -> Path:
    """The folder, made for us alone where it is not there. OSError, which says why, if others could write to it."""
    if not path.parent.exists():
        _made(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if hasattr(os, "geteuid") and (weakness := _weakness(path)):  # Windows keeps these places for one account
        raise PermissionError(weakness)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} is not writable")
    return path


def _weakness(path: Path) -> str | None:
    """What keeps us from trusting this folder, None if nothing does: who could have put a file into it?"""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a folder"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another account, {status.st_uid}"
    if _others_write(status):
        return f"{path} is writable by other accounts; run: chmod go-w {path}"
    rulers = {0, os.geteuid(), os.stat("/").st_uid}  # of the machine; in a container its root may have another number
    for parent in path.parents:
        status = os.stat(parent)
        if status.st_uid not in rulers:
            return f"{parent} belongs to another account, {status.st_uid}"
        if (
            _others_write(status) and not status.st_mode & stat.S_ISVTX
        ):  # with it, as on /tmp, nobody renames our folder
            return f"{parent} is writable by other accounts"
    return None


def _others_write(status: os.stat_result) -> bool:
    """Whether an account that is not the owner may write there. A group that has one member is no other account."""
    mode = status.st_mode
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_ours_alone(status.st_gid)))


@functools.cache
def _is_ours_alone(gid: int) -> bool:
    """Whether this is the group that many systems make for each account, under its name, with nobody else in it."""
    import grp
    import pwd

    try:
        account, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == account.pw_gid and group.gr_name == account.pw_name and set(group.gr_mem) <= {account.pw_name}


def _open_without_following(path: str, flags: int) -> int:
    """As `open` does, but a link is an error, and a pipe without a writer is not waited for."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _account(status: os.stat_result) -> int:
    return os.geteuid() if hasattr(os, "geteuid") else status.st_uid


def _seal(path: StrPath, content: bytes) -> bytes:
    """The name is in it too: an entry under the name of another is not whole."""
    return hashlib.sha256(Path(path).name.encode() + b"\0" + content).digest()
