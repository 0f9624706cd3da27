"""Paths that a person gave, files that are only ever regular ones, and writing so that nobody sees half of one."""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from kernels.system.errors import UserError
from kernels.system.printable import brief

StrPath: TypeAlias = str | os.PathLike[str]

_SUFFIX = ".partial"
_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)")
_OF_THE_PATH = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
                errno.ELOOP, errno.EROFS, errno.EBADF, errno.ENXIO}  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where this is one


def shipped(installed: Path, in_checkout: str) -> Path:
    """A folder that the wheel has inside a package, at `installed`, and a checkout at its top, `in_checkout`."""
    return installed if installed.is_dir() else _ROOT / in_checkout


def given(path: StrPath) -> Path:
    """A path as a person gave it -> Path, `~` and `~NAME` at its beginning replaced by the home folder.

    UserError for a name that cannot be written into a config.toml or to a terminal.
    """
    if not path:
        raise UserError("the path is empty; give the name of a file or folder")
    path = os.path.expanduser(os.fspath(path))
    if "\0" in path:
        raise UserError(f"the path {brief(path)} contains a null character; no file can have that name")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"the name of {path} is not UTF-8; rename it, or reach it through a link that is") from None
    return Path(path)


def status(path: StrPath) -> os.stat_result | None:
    """os.stat of a path that a person gave, links followed; None if nothing is there.

    UserError if the system refuses to say: a folder that may not be searched, a name too long, a circle of links.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror}") from None


def is_file(path: StrPath) -> bool:
    """Whether a regular file is at this path; see `status`."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: StrPath) -> bool:
    """Whether a folder is at this path; see `status`."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def require_place(path: StrPath) -> None:
    """UserError unless a file can be made at `path`, or replaced: said before what goes there is computed."""
    folder = Path(os.path.realpath(path)).parent
    if is_folder(path) or not is_folder(folder):
        why = "it is a folder" if is_folder(path) else f"there is no folder {folder}"
        raise UserError(f"cannot write {path}: {why}")


def require_file(path: StrPath) -> None:
    """UserError unless a regular file that may be read is at `path`."""
    try:
        open_regular(path, "rb").close()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def open_regular(path: StrPath, mode: str = "r", **options: Any) -> IO[Any]:
    """`open` to read a file. OSError for a pipe or a device: it may never end, or cannot be read a second time."""
    if b"\0" in os.fsencode(path):
        raise OSError(errno.EINVAL, "its name has a null character")
    return open(path, mode, opener=_open_regular, **options)


def _open_regular(path: str, flags: int) -> int:
    _refuse_other(os.stat(path), path)  # to open a device may do something
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or a pipe, put there meanwhile, waits for a writer
    try:
        _refuse_other(os.fstat(file), path)
    except OSError:
        os.close(file)
        raise
    return file


def _refuse_other(found: os.stat_result, path: StrPath) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        what = f"it is a {_KINDS.get(kind, 'special file')}; save what it gives in a file"
        raise OSError(errno.EINVAL, what, str(path))


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """A temporary file beside `path`, of this process alone; after the block it is flushed to disk and takes that name.

    Yields its path; its mode is what the umask gives. If the block raises, the temporary file is removed and what
    stood at `path` stays; an OSError names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:50]}.{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, partial, str(partial)):
            error.filename = str(path)
        raise
    _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    """Have the names in a folder on disk, where the system has a way to say so (Windows has none)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # so some network file systems say that they cannot
            raise
    finally:
        os.close(opened)


@contextmanager
def writing(path: StrPath) -> Iterator[BinaryIO]:
    """A binary file to write into, for output that a person pointed to. UserError if it cannot lie there.

    A file is written whole or not at all, under exactly this name; a symbolic link stays, and its target is replaced.
    What is no file, such as a pipe or /dev/null, is written into; so are the open files that /dev/stdout, /dev/stderr
    and /dev/fd/N mean.
    """
    try:
        if descriptor := _DESCRIPTOR.fullmatch(os.fspath(path)):
            sys.stdout.flush()
            number = {"stdout": 1, "stderr": 2}.get(descriptor[1]) or int(descriptor[2])
            with open(os.dup(number), "wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            with open(path, "wb") as file:
                yield file
            return
        os.stat(target.parent)  # a folder that is not there is a mistake, and is not made
        with replacing(target) as partial, open(partial, "wb") as file:
            if target.exists():
                shutil.copymode(target, partial)
            yield file
    except OSError as error:
        if is_of_the_path(error):
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        if error.errno and error.filename is None:  # of a device, which has taken part of it
            error.filename = os.fspath(path)
        raise


def is_of_the_path(error: OSError) -> bool:
    """Whether an OSError is about a path that a person gave, rather than a full disk, a quota, or a failing device."""
    return error.errno in _OF_THE_PATH


@contextmanager
def folders(path: StrPath) -> Iterator[list[Path]]:
    """During the block the folder `path` exists. Yields a list of those that were made for it, outermost first.

    They are removed again if they are empty afterwards.
    """
    path, made = Path(path), []
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                with suppress(FileExistsError):  # made meanwhile, by another process
                    folder.mkdir()
                    made.append(folder)
        yield made
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def remove_partial(folder: StrPath, names: str, others: str = r"(?!)") -> None:
    """Delete what killed processes left in `folder` of files that they were writing, and no other file.

    names: a regular expression for the names of those files; others: one for names that temporary files had besides.
    Call it only where no other process can be writing them.
    """
    leftover = re.compile(rf"\.({names})\.\d+-[0-9a-f]{{8}}\.partial|{others}")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
