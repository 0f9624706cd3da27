"""Writing files so that nobody ever sees half of one."""

import os
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".partial"
_ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where this is one


def shipped(installed, in_checkout):
    """A folder that the wheel has inside a package, at `installed`, and a checkout at its top, `in_checkout`."""
    return installed if installed.is_dir() else _ROOT / in_checkout


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
