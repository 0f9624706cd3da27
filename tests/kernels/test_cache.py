"""The caches' folders: nobody else could have written there, and an entry is whole or counts as none."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kernels.system import cache

ROOT = Path(__file__).resolve().parents[2]
PRINT_FOLDER = "from kernels.system import cache; print(cache.folder('kind'))"
needs_accounts = pytest.mark.posix  # Windows has no numbers for accounts


@pytest.fixture
def places(tmp_path, monkeypatch):
    """(~/.cache, the folder for temporary files) of this test."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(cache, "_said", set())
    return home / ".cache", temporary


def in_temporary(places):
    return places[1] / f"minigrad-{os.geteuid()}" / "kind"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_made_for_this_account_alone(places):
    before = os.umask(0)
    try:
        found = cache.folder("kind")
    finally:
        os.umask(before)
    assert found == places[0] / "minigrad" / "kind"
    assert [mode(path) for path in (found, found.parent, found.parent.parent)] == [0o700] * 3


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_a_place_that_is_not_absolute_is_ignored_as_its_standard_says(places, monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache.folder("kind") == places[0] / "minigrad" / "kind"


def test_a_place_that_the_user_names_is_used(places, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places[1] / "a" / "b"))
    assert cache.folder("kind") == places[1] / "a" / "b" / "minigrad" / "kind"


def test_a_user_may_have_linked_the_cache_to_another_disk(places):
    (places[1] / "scratch").mkdir()
    places[0].symlink_to(places[1] / "scratch")
    assert cache.folder("kind") == places[1] / "scratch" / "minigrad" / "kind"


@pytest.mark.parametrize("home", ["absent", "relative", None])
def test_without_a_home_the_folder_lies_among_the_temporary_ones(places, monkeypatch, home):
    if home is None:  # and no passwd entry either
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", home if home == "relative" else str(places[1] / home))
    assert cache.folder("kind") == in_temporary(places)
    assert not (places[1] / "absent").exists()  # a home is not ours to make


def a_file(path):
    path.write_text("")


def a_link_to_a_folder_of_ours(path):
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def a_broken_link(path):
    path.symlink_to("nothing")


def writable_by_all(path):
    path.mkdir()
    path.chmod(0o777)


def writable_by_a_group(path):
    path.mkdir()
    path.chmod(0o770)


def test_where_there_is_no_place_at_all_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(cache, "_candidates", lambda: [])
    assert cache.folder("kind") is None
    assert "neither a home nor a folder for temporary files" in capsys.readouterr().err


UNTRUSTED = (a_file, a_link_to_a_folder_of_ours, a_broken_link, writable_by_all, writable_by_a_group)


@pytest.mark.parametrize("make", UNTRUSTED)
@pytest.mark.parametrize("below", ["minigrad", "minigrad/kind"])
def test_what_others_could_have_made_is_not_used(places, monkeypatch, capsys, make, below):
    monkeypatch.setattr(cache, "_is_ours_alone", lambda gid: False)
    first = places[0] / below
    first.parent.mkdir(parents=True)
    make(first)
    assert cache.folder("kind") == in_temporary(places)
    assert capsys.readouterr().err == ""
    os.rmdir(in_temporary(places))
    make(in_temporary(places))
    assert [cache.folder("kind"), cache.folder("kind")] == [None, None]
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert line.startswith("minigrad: no cache, ") and str(first) in line and str(in_temporary(places)) in line


def test_a_group_with_one_member_is_no_other_account(places):
    """Where each account has a group of its own, a mask of 002 makes all folders writable by it."""
    import grp
    import pwd

    account = pwd.getpwuid(os.geteuid())
    assert cache._is_ours_alone.__wrapped__(account.pw_gid) == (
        grp.getgrgid(account.pw_gid).gr_name == account.pw_name
        and set(grp.getgrgid(account.pw_gid).gr_mem) <= {account.pw_name}
    )
    assert not any(
        cache._is_ours_alone.__wrapped__(group.gr_gid) for group in grp.getgrall() if group.gr_gid != account.pw_gid
    )


@needs_accounts
def test_a_folder_above_that_others_may_rename_is_not_used(places):
    places[0].mkdir()
    places[0].chmod(0o777)
    assert cache.folder("kind") == in_temporary(places)
    places[0].chmod(0o1777)  # in such a folder only the owner renames
    assert cache.folder("kind") == places[0] / "minigrad" / "kind"


@needs_accounts
def test_a_folder_of_another_account_is_not_used(places, monkeypatch, capsys):
    """Asked as account 54321: the folders are this test's own account's."""
    foreign = places[1] / "minigrad-54321"
    foreign.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert cache.folder("kind") is None
    assert f"{foreign} belongs to another account, {os.getuid()}" in capsys.readouterr().err


@pytest.mark.root  # only root can become another account
@pytest.mark.parametrize("account", [12346, 0])
def test_of_two_real_accounts_neither_uses_what_the_other_made(account):
    code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); import kernels.system.cache; os.setuid({account})\n"
    with tempfile.TemporaryDirectory() as shared:  # pytest's own folder for this test is closed to other accounts
        os.chmod(shared, 0o1777)
        made = Path(shared, f"minigrad-{account}")
        made.mkdir(mode=0o755)
        os.chown(made, 12345, 12345)
        env = {"TMPDIR": shared, "HOME": f"{shared}/absent"}
        run = subprocess.run([sys.executable, "-c", code + PRINT_FOLDER], env=env, capture_output=True, text=True)
    assert run.stdout == "None\n", run.stderr
    assert f"{made} belongs to another account, 12345" in run.stderr


# ------------------------------------------------------------------------------------------------ entries


def test_an_entry_is_read_as_it_was_written(tmp_path):
    assert cache.read(tmp_path / "entry") is None
    assert cache.write(tmp_path / "entry", b"content")
    assert cache.write(tmp_path / "entry", b"other")
    assert cache.read(tmp_path / "entry") == b"other"
    assert cache.write(tmp_path / "empty", b"") and cache.read(tmp_path / "empty") == b""
    assert sorted(os.listdir(tmp_path)) == ["empty", "entry"]


def test_a_damaged_entry_counts_as_none_and_is_removed(tmp_path):
    cache.write(tmp_path / "entry", b"content")
    whole = (tmp_path / "entry").read_bytes()
    damaged = [whole[:n] for n in range(len(whole))] + [bytes(len(whole)), whole + b"x"]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in damaged:
        (tmp_path / "entry").write_bytes(content)
        assert cache.read(tmp_path / "entry") is None
        assert not (tmp_path / "entry").exists()
    (tmp_path / "renamed").write_bytes(whole)
    assert cache.read(tmp_path / "renamed") is None


def test_what_is_no_regular_file_of_ours_counts_as_none(tmp_path, monkeypatch):
    path = tmp_path / "entry"
    cache.write(tmp_path / "real", b"content")
    path.symlink_to(tmp_path / "real")
    assert cache.read(path) is None and not path.is_symlink()
    os.mkfifo(path)
    assert cache.read(path) is None and not path.exists()  # and nobody waits for a writer
    path.mkdir()
    assert cache.read(path) is None and path.is_dir()
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        bound.bind("socket")
        assert cache.read(tmp_path / "socket") is None
    cache.write(tmp_path / "foreign", b"content")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert cache.read(tmp_path / "foreign") is None


def test_what_cannot_be_kept_is_told_of_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache, "_said", set())
    for name in ("a", "b"):
        assert not cache.write(tmp_path / "gone" / name, b"content")
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "gone") in line and "No such file or directory" in line
    (tmp_path / "a").mkdir()
    assert not cache.write(tmp_path / "a", b"content")
    assert os.listdir(tmp_path) == ["a"]  # and nothing unfinished


def test_a_stderr_that_takes_nothing_does_not_end_the_run(tmp_path):
    code = f"from kernels.system import cache; cache.write({str(tmp_path / 'gone' / 'a')!r}, b''); print('went on')"
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", code], stderr=full, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert run.stdout == "went on\n"


def test_the_temporary_folder_goes_with_its_process_and_not_with_a_fork_of_it(tmp_path):
    code = """
import os, sys
from kernels.system import cache
folder = cache.temporary()
if os.fork() == 0:
    sys.exit()
os.wait()
print(folder.is_dir(), oct(folder.stat().st_mode & 0o777))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.stdout == "True 0o700\n" and os.listdir(tmp_path) == []
