"""Paths that cannot be used, for every command and argument that takes one: one line, status 2, nothing written."""

import contextlib
import ctypes
import importlib.util
import io
import os
import sys
from unittest import mock

import pytest

TRAIN = ("tiny_transformer_np.training", "--kernels", "reference", "--no-preflight")
PREPARE = ("tiny_transformer_np.training.prepare", "--tokenizer", "byte", "--processes", "1")
SIM = ("cudasim", "check", "{}", "--block", "32")
READING = {  # {}: the path
    "config": (*TRAIN, "--out-dir", "{out}", "--config", "{}"),
    "data": (*TRAIN, "--out-dir", "{out}", "--data", "{}"),
    "val-data": (*TRAIN, "--out-dir", "{out}", "--val-data", "{}"),
    "resume": (*TRAIN, "--resume", "{}"),
    "post-mortem": (*TRAIN, "--post-mortem", "{}"),
    "sampling": ("tiny_transformer_np.sampling", "{}", "--kernels", "reference"),
    "compare_steps": ("minigrad.compare_steps", "{}", "kernels=reference"),
    "prepare": (*PREPARE, "{}", "--out", "{out}"),
    "prepare's tokenizer": (*PREPARE, __file__, "--out", "{out}", "--tokenizer", "{}"),
    "sim": SIM,
}
WRITING = {
    "out-dir": (*TRAIN, "--out-dir", "{}"),
    "prepare's out": (*PREPARE, __file__, "--out", "{}"),
    "save": ("minigrad.compare_steps", "kernels=reference", "--save", "{}"),
    "json": ("minigrad.gradient_checking", "--op", "add", "--json", "{}"),
    "plot": ("minigrad.gradient_checking", "--op", "add", "--plot", "{}"),
}
ALL = READING | WRITING
TOO_LONG = "x" * 256


def outcome(arguments, path, out):
    """(exit status, what is written to stderr) of a command in this process."""
    module, *flags = (str(part).replace("{out}", str(out)).replace("{}", str(path)) for part in arguments)
    errors = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, *flags]),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            package = importlib.util.find_spec(module).submodule_search_locations
            status = importlib.import_module(f"{module}.__main__" if package else module).main()
        except SystemExit as left:
            status = left.code
    return status, errors.getvalue()


def refused(arguments, path, out, *words):
    status, message = outcome(arguments, path, out)
    assert status == 2 and message.count("\n") == 1 and len(message) < 900, (status, message)
    assert all(word in message for word in words), message


def bad_path(kind, folder):
    if kind == "pipe":
        os.mkfifo(folder / "pipe")  # that nobody writes to
    if kind == "loop":
        (folder / "loop").symlink_to(folder / "loop")
    (folder / "file").write_text("text")
    return {
        "name too long": folder / TOO_LONG, "path too long": "y/" * 3000, "null": "a\0b", "empty": "",
        "not UTF-8": folder / os.fsdecode(b"caf\xe9.txt"), "below a file": folder / "file" / "a", "device": "/dev/zero",
        "pipe": folder / "pipe", "loop": folder / "loop", "nothing there": folder / "none" / "a", "folder": folder,
    }[kind]  # fmt: skip


#: kind -> words of the line
WORDS = {
    "name too long": "File name too long", "path too long": "File name too long", "null": "null character",
    "empty": "the path is empty", "not UTF-8": "is not UTF-8; rename it", "below a file": "",
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("name", ALL)
def test_a_path_that_cannot_be(name, kind, tmp_path):
    refused(ALL[name], bad_path(kind, tmp_path), tmp_path / "out", WORDS[kind])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["device", "pipe", "loop", "nothing there", "folder"])
@pytest.mark.parametrize("name", READING)
def test_what_is_no_file_to_read(name, kind, tmp_path):
    refused(READING[name], bad_path(kind, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["save", "json", "plot"])
@pytest.mark.parametrize("kind", ["nothing there", "folder"])
def test_a_place_to_write_to_is_looked_at_before_anything_is_computed(name, kind, tmp_path, monkeypatch):
    for module, function in (("minigrad.compare_steps", "_trace_of"), ("minigrad.gradient_checking.table", "rows")):
        monkeypatch.setattr(importlib.import_module(module), function, None)
    refused(WRITING[name], bad_path(kind, tmp_path), tmp_path / "out", "cannot write")


@pytest.mark.parametrize("name", ALL)
def test_a_working_directory_that_was_deleted(name, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(ALL[name], tmp_path / "a", "out", "the working directory has been deleted; change to another one")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    refused(READING["data"], "~/a.txt", tmp_path / "out", f"cannot read data file {tmp_path}/a.txt: No such file")
    refused(READING["resume"], "~/run", tmp_path / "out", f"no run and no checkpoint at {tmp_path}/run")


def test_a_working_directory_with_a_name_that_is_not_utf_8(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "text.txt").write_text("text")
    monkeypatch.chdir(folder)
    refused(READING["data"], "text.txt", tmp_path / "out", "is not UTF-8; rename it")


@pytest.mark.parametrize("also", [("--resume", "run"), ("--preflight",), ("--step-backward",)])
def test_post_mortem_goes_with_nothing_else(also, tmp_path):
    refused((*READING["post-mortem"], *also), tmp_path / "a", None, "--post-mortem replays a saved state")


@pytest.fixture
def unprivileged():
    """Root may read and write everywhere: for this test it may not (Linux)."""
    if os.geteuid():
        yield
        return
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)  # of capabilities(7), version 3; this thread
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    without[:] = before[:]
    without[0] = 0  # effective ones; the permitted ones stay, so that they can be taken up again
    assert libc.capset(header, without) == 0
    yield
    assert libc.capset(header, before) == 0


@pytest.mark.parametrize("name", ALL)
def test_a_folder_that_may_not_be_entered(name, tmp_path, unprivileged):
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "a").write_text("text")
    locked.chmod(0)
    try:
        refused(ALL[name], locked / "a", tmp_path / "out", "ermission denied")
    finally:
        locked.chmod(0o700)


@pytest.mark.parametrize("name", ["config", "data", "val-data", "post-mortem", "sampling", "compare_steps", "sim"])
def test_a_file_that_may_not_be_read(name, tmp_path, unprivileged):
    (tmp_path / "a").write_text("text")
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "a").chmod(0)
    refused(READING[name], tmp_path / "a", tmp_path / "out", "a")
