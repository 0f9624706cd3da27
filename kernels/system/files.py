"""Paths that a person gave, files that are only ever regular ones, and writing so that nobody sees half of one."""

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path

from kernels.system.errors import UserError
from kernels.system.text import brief

_SUFFIX = ".partial"
_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where this is one


def shipped(installed, in_checkout):
    """A folder that the wheel has inside a package, at `installed`, and a checkout at its top, `in_checkout`."""
    return installed if installed.is_dir() else _ROOT / in_checkout


def given(path):
    """A path as a person gave it -> Path, `~` and `~NAME` at its beginning replaced by the home folder.

    UserError for a name that cannot be written into a config.toml or to a terminal.
    """
    path = os.path.expanduser(path)
    if "\0" in path:
        raise UserError(f"the path {brief(path)} contains a null character; no file can have that name")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of {path} is not UTF-8; rename it, or reach it through a link that is") from None
    return Path(path)


def status(path):
    """os.stat of a path that a person gave, links followed; None if nothing is there.

    UserError if the system refuses to say: a folder that may not be searched, a name too long, a circle of links.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror}") from None


def is_file(path):
    """Whether a regular file is at this path; see `status`."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path):
    """Whether a folder is at this path; see `status`."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def open_regular(path, mode="r", **options):
    """`open` to read a file. OSError for a pipe or a device: it may never end, or cannot be read a second time."""
    return open(path, mode, opener=_open_regular, **options)


def _open_regular(path, flags=os.O_RDONLY):
    try:
        _refuse_other(os.stat(path), path)  # to open a device may do something
        file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or a pipe, put there meanwhile, waits for a writer
    except ValueError as error:  # a null character
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        _refuse_other(os.fstat(file), path)
    except OSError:
        os.close(file)
        raise
    return file


def _refuse_other(found, path):
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        what = f"it is a {_KINDS.get(kind, 'special file')}; save what it gives in a file"
        raise OSError(errno.EINVAL, what, str(path))


@contextmanager
def replacing(path):
    """A temporary path beside `path`: after the block its file is flushed to disk and takes the name `path`.

    If the block raises, the temporary file is removed and what stood at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + _SUFFIX)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself
    finally:
        os.close(folder)


def remove_partial(folder):
    """Delete what a killed process left half-written below `folder`."""
    for path in Path(folder).rglob("*" + _SUFFIX):
        path.unlink()
