"""Files appear whole or not at all, under the name asked for, with the umask's mode; locks die with their process."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save

from kernels.system import locks, tensors
from kernels.system.errors import UserError
from kernels.system.files import folders, remove_partial, replacing, writing

# argv: a lock file, and what to do once it is held: "wait", or "fork" and leave a child behind
HOLDER = """
import os, sys, time
from kernels.system.locks import holding
with holding(sys.argv[1]):
    reader, writer = os.pipe()
    if sys.argv[2] == "fork":
        if os.fork() == 0:
            os.close(1)
            os.write(writer, b"the child has let go")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 1)
    if sys.argv[2] == "exec":
        os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 1)])
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


# ------------------------------------------------------------------------------------- whole or not at all


def test_the_temporary_file_is_this_process_own_and_takes_the_mode_of_the_umask(tmp_path, umask):
    path = tmp_path / "new" / "file"
    with replacing(path) as first, replacing(path) as second:
        assert (
            first != second
            and str(os.getpid()) in first.name
            and names(path.parent) == sorted([first.name, second.name])
        )
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and names(path.parent) == ["file"]  # whoever is last
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_told_of_by_the_name_that_the_person_knows(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "file") and names(tmp_path) == []


def test_only_what_a_killed_process_left_is_removed(tmp_path):
    ours = [".a.toml.12-0123abcd.partial", ".step_7.txt.99999-ffffffff.partial", ".tmpAb3xYz"]
    others = ["a.toml", "mine.partial", ".mine.partial", ".b.toml.12-0123abcd.partial", ".a.toml.12-0123ABCD.partial",
              ".a.toml.12-0123abcd.partial.txt", ".tmpAb3xYz.txt", "xtmpAb3xYz"]  # fmt: skip
    for name in (*ours, *others):
        (tmp_path / name).write_text("x")
    (tmp_path / ".a.toml.13-0123abcd.partial").mkdir()
    (tmp_path / ".a.toml.14-0123abcd.partial").symlink_to("a.toml")
    remove_partial(tmp_path, r"a\.toml|step_\d\.txt", r"\.tmp\w{6}")
    assert names(tmp_path) == sorted([*others, ".a.toml.13-0123abcd.partial", ".a.toml.14-0123abcd.partial"])
    remove_partial(tmp_path / "missing", "a")


def test_folders_that_stay_empty_are_removed_again(tmp_path):
    (tmp_path / "there").mkdir()
    with folders(tmp_path / "there" / "a" / "b") as made:
        assert made == [tmp_path / "there" / "a", tmp_path / "there" / "a" / "b"] and made[-1].is_dir()
        (tmp_path / "there" / "a" / "file").touch()
    assert names(tmp_path) == ["there", "there/a", "there/a/file"]


# ---------------------------------------------------------------------------------- where a person pointed to


def test_output_replaces_a_file_and_leaves_links_and_modes(tmp_path, umask):
    (tmp_path / "target").write_text("before")
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("made")
    for name, target in (("link", "target"), ("dangling", "made"), ("new", "new"), ("picture", "picture")):
        with writing(tmp_path / name) as file:
            file.write(b"after")
        assert (tmp_path / target).read_bytes() == b"after"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600 and (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    with pytest.raises(KeyError), writing(tmp_path / "target") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "target").read_bytes() == b"after"
    assert names(tmp_path) == ["dangling", "link", "made", "new", "picture", "target"]


@pytest.mark.posix
def test_output_goes_into_devices_and_pipes(tmp_path, capfdbinary):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    for place in (pipe, os.devnull, "/dev/stdout", "/dev/stderr", "/dev/fd/1"):
        with writing(place) as file:
            file.write(b"bytes;")
    reader.join()
    assert got == [b"bytes;"] and pipe.is_fifo() and names(tmp_path) == ["pipe"]
    captured = capfdbinary.readouterr()
    assert captured.out == b"bytes;bytes;" and captured.err == b"bytes;"


@pytest.mark.parametrize("path", ["", "missing/file", "file/below", "x" * 300, "/dev/fd/987"])
def test_output_that_cannot_lie_there_is_one_line(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^cannot write {path or '.'}: "), writing(path or "."):
        pass
    assert names(tmp_path) == ["file"]


@pytest.mark.linux
def test_a_full_device_is_named():
    with pytest.raises(OSError, match=r"No space left.*'/dev/full'"), writing("/dev/full") as file:
        file.write(b"bytes")


def test_tensors_are_written_as_the_format_s_library_writes_them():
    rng = np.random.default_rng(0)
    arrays = {}
    for i, dtype in enumerate(tensors._DTYPES):
        arrays[f'b"\\\n\x01\x7fé{i}'] = (9 * rng.random((3, i))).astype(dtype)
        arrays[f"a{i}"] = np.asarray(3).astype(dtype)
    arrays["transposed"], arrays["big-endian"] = rng.random((4, 5)).T, np.arange(3.0).astype(">f4")
    file = io.BytesIO()
    tensors.write(file, arrays, {"text": '{"é": "\x02\\n"}'})
    with pytest.raises(UserError, match="array x has dtype complex128"):
        tensors.write(file, {"x": np.zeros(2, complex)}, {})
    assert file.getvalue() == save(
        {n: np.asarray(a, order="C") for n, a in arrays.items()}, {"text": '{"é": "\x02\\n"}'}
    )


def test_tensors_are_written_without_a_copy():
    arrays = {"x": np.zeros((1000, 1000)), "y": np.zeros(10)}
    tracemalloc.start()
    with open(os.devnull, "wb") as file:
        tensors.write(file, arrays, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


# ---------------------------------------------------------------------------------------------------- locks


@pytest.mark.posix
def test_one_holds_a_lock_file_which_is_gone_afterwards(tmp_path):
    path = tmp_path / "lock"
    for _ in range(2):
        with locks.holding(path) as keeps_others_out:
            assert keeps_others_out
            with pytest.raises(locks.Held), locks.holding(path):
                pass
            assert path.exists()
        assert names(tmp_path) == []


@pytest.mark.posix
@pytest.mark.parametrize("then", ["wait", "fork", "exec"])
def test_a_lock_dies_with_its_process_even_where_a_child_lives_on(tmp_path, then):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path), then]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(locks.Held), locks.holding(path):
            pass
        process.kill()
        process.wait()
        with locks.holding(path) as keeps_others_out:
            assert keeps_others_out
        assert names(tmp_path) == []
        if then != "wait":
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.posix
def test_a_lock_file_that_is_removed_while_another_opens_it(tmp_path, monkeypatch):
    """The second process then holds a file that has no name, which would keep nobody out."""
    path, flock, removed = tmp_path / "lock", locks.fcntl.flock, []

    def late(file, operation):
        if not removed:
            removed.append(path.unlink())
        flock(file, operation)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with locks.holding(path):
        assert os.stat(path).st_nlink == 1
        with pytest.raises(locks.Held), locks.holding(path):
            pass


@pytest.mark.posix
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path.with_name("target"), path)])
def test_a_lock_file_that_is_something_else(tmp_path, make):
    """As in a folder that came from elsewhere: it is neither waited for nor followed."""
    make(tmp_path / "lock")
    with pytest.raises(OSError), locks.holding(tmp_path / "lock"):
        pass
    assert names(tmp_path) == ["lock"]


@pytest.mark.posix
def test_where_there_are_no_locks(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)  # as some network file systems do
    with locks.holding(tmp_path / "lock") as keeps_others_out:
        assert not keeps_others_out and names(tmp_path) == []
    monkeypatch.setattr(locks, "fcntl", None)  # as on Windows
    with locks.holding(tmp_path / "lock") as keeps_others_out:
        assert not keeps_others_out and names(tmp_path) == []
