"""cudasim/cache.py: compiled files are kept in a folder of this account alone, or in one of this process."""

import os

import pytest

from cudasim import cache

pytestmark = pytest.mark.posix


def write(path):
    with open(path, "a") as file:
        file.write("compiled")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cudasim"


def test_a_file_is_made_once(home):
    made = []
    for _ in range(2):
        path = cache.keep("a.so", lambda path: made.append(path) or write(path))
    assert path == home / "a.so" and path.read_text() == "compiled" and len(made) == 1
    assert home.stat().st_mode & 0o077 == 0


def test_half_a_file_is_never_kept(home):
    def fail(path):
        write(path)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        cache.keep("a.so", fail)
    assert list(home.iterdir()) == []


def writable_by_others(home):
    home.mkdir()
    home.chmod(0o777)


def a_link(home):
    (home.parent / "elsewhere").mkdir()
    home.symlink_to(home.parent / "elsewhere")


def a_file(home):
    home.write_text("")


@pytest.mark.parametrize("prepare", [writable_by_others, a_link, a_file])
def test_a_folder_that_others_may_write_to_is_not_used(home, prepare):
    prepare(home)
    path = cache.keep("a.so", write)
    assert path.parent == cache.temporary() and path.read_text() == "compiled"
    path.unlink()


def test_another_accounts_folder_is_not_used(home, monkeypatch):
    home.mkdir(mode=0o700)
    other_account = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other_account)
    assert cache._folder() is None
