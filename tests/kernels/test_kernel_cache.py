"""Compiled kernels on disk: damage, a full disk or a folder of another account's costs a compilation, and no more."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from numba.cloudpickle import dumps

from kernels.cpu import compile
from kernels.system import cache

ROOT = Path(__file__).resolve().parents[2]


def twice(x):
    return x + x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where kernels that are made in this test are kept."""
    monkeypatch.setattr(compile, "_CACHE", tmp_path)
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path


def call():
    """How many of the two versions of `twice` a new process would have had to compile."""
    kernel = compile.jit(twice)
    assert (kernel(2), kernel(1.5)) == (4, 3.0)
    return sum(kernel.stats.cache_misses.values())


def entries(folder):
    return sorted(folder.glob("*.kernel"))


def empty(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cleared(path):
    path.write_bytes(bytes(path.stat().st_size))


def a_changed_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_signature(path):
    shutil.copy(next(other for other in path.parent.glob("*.kernel") if other != path), path)


def whole_but_no_kernel(path):
    cache.write(path, dumps({"not": "a kernel"}))


def whole_but_no_pickle(path):
    cache.write(path, b"no pickle")


def a_link(path):
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = (
    empty, cut_short, cleared, a_changed_byte, of_another_signature, whole_but_no_kernel, whole_but_no_pickle, a_link,
    a_pipe,
)  # fmt: skip


def test_a_damaged_entry_is_compiled_again(folder):
    assert [call(), call()] == [2, 0]
    assert len(entries(folder)) == 2
    for damage in DAMAGES:
        damage(entries(folder)[0])
        assert [call(), call()] == [1, 0], damage.__name__


def test_a_folder_in_place_of_an_entry_only_means_that_it_is_not_kept(folder, capfd):
    call()
    path = entries(folder)[0]
    path.unlink()
    path.mkdir()
    assert [call(), call()] == [1, 1]
    assert capfd.readouterr().err.count("compiled again at the next start") == 1


def test_a_folder_that_vanishes_only_means_that_nothing_is_kept(folder, capfd):
    call()
    shutil.rmtree(folder)
    assert [call(), call()] == [2, 2]
    assert capfd.readouterr().err.count(f"{folder}: No such file or directory") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_where_nothing_can_be_written_it_is_said_once(folder, capfd, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert [call(), call()] == [2, 2]
    assert capfd.readouterr().err.count(f"{folder}: {os.strerror(number)}") == 1


def test_without_a_cache_kernels_are_compiled(monkeypatch):
    monkeypatch.setattr(compile, "_CACHE", None)
    assert [call(), call()] == [2, 2]


# ------------------------------------------------------------- in processes of their own

RUN = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from kernels.cpu.compile import jit

@jit
def twice(x):
    return x + x

assert twice(2) == 4
print("ended well, compiled:", sum(twice.stats.cache_misses.values()))
"""
AS_ANOTHER_ACCOUNT = "import os; os.geteuid = lambda: 54321\n"
ON_A_FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"  # a file holds no more


def start(environment, before=""):
    """A process that calls a kernel; `environment` is all that it has."""
    command = [sys.executable, "-c", before + RUN]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd="/")
    assert result.returncode == 0 and result.stdout.startswith("ended well"), result.stderr
    return result.stdout + result.stderr


def test_code_that_another_account_left_among_temporary_files_is_not_run(tmp_path):
    """Account 54321 is to load what this test's own account wrote, into the folder that it would use."""
    environment = {"HOME": str(tmp_path / "absent"), "TMPDIR": str(tmp_path)}
    assert "compiled: 1" in start(environment)
    (honest,) = tmp_path.glob("minigrad-*")
    (entry,) = honest.glob("cpu-*/*.kernel")
    marker = tmp_path / "marker"
    cache.write(entry, dumps(Payload(str(marker))))
    start(environment)  # in the account's own folder it does run: the payload is one
    assert marker.is_dir()
    marker.rmdir()

    cache.write(entry, dumps(Payload(str(marker))))
    honest.rename(tmp_path / "minigrad-54321")
    said = start(environment, AS_ANOTHER_ACCOUNT)
    assert not marker.exists() and "compiled: 1" in said
    assert f"no cache, so what is compiled now is compiled again at the next start ({tmp_path}/minigrad-54321" in said
    assert "belongs to another account" in said


class Payload:
    """As a pickle, a call of os.mkdir."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_full_disk_does_not_end_a_run(tmp_path):
    said = start({"XDG_CACHE_HOME": str(tmp_path)}, ON_A_FULL_DISK)
    assert said.count(os.strerror(errno.EFBIG)) == 1
    assert entries(next(tmp_path.glob("minigrad/cpu-*"))) == []
    assert not list(tmp_path.glob("**/*.tmp"))


def test_an_account_without_a_home_or_a_name_runs_kernels(tmp_path):
    """A container started with any number for its account has neither."""
    before = "import pwd\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\n"
    assert "compiled: 1" in start({"TMPDIR": str(tmp_path)}, before)
    assert "compiled: 0" in start({"TMPDIR": str(tmp_path)}, before)
    assert len(list(tmp_path.glob("minigrad-*/cpu-*/*.kernel"))) == 1
