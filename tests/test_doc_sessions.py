"""The sessions in docs and in cudasim/README.md: every command does what the page shows, and the bugs are real."""

import doc_sessions
import pytest

pytestmark = pytest.mark.posix  # its commands are for such a shell


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.pdb
@pytest.mark.parametrize("path", doc_sessions.PAGES, ids=lambda path: path.stem)
def test_its_sessions_print_what_the_page_shows(path, tmp_path):
    tree, page = doc_sessions.copy_of_the_project(tmp_path.resolve() / "minigrad"), path.read_text(encoding="utf-8")
    differing = doc_sessions.differences(page, doc_sessions.performed(page, tree))
    lines = "\n".join(f"page: {page}\nnow:  {now}" for page, now in differing[:10])
    assert not differing, f"{lines}\nif it is right as it is now: python tests/doc_sessions.py writes it into the page"
    for path in (
        "kernels/layernorm/reference.py",
        "minigrad/_tensor.py",
        "cudasim/examples/sums.cu",
    ):  # seeded, and repaired
        assert (tree / path).read_text() == (doc_sessions.ROOT / path).read_text(), path


def test_a_page_that_is_no_longer_so_is_noticed(tmp_path):
    page = "```console\n$ python -c 'print(1.234567, 88, \"abc\")'\n{}```\n"
    assert not doc_sessions.differences(
        page.format("1.2346 88 abc\n"), doc_sessions.performed(page.format(""), tmp_path)
    )
    for other in ("1.26 88 abc\n", "1.234567 89 abc\n", "1.234567 88 abd\n", "", "1.234567 88 abc\nmore\n"):
        assert doc_sessions.differences(page.format(other), doc_sessions.performed(page.format(""), tmp_path)), other


def test_prompts_are_answered_with_what_stands_behind_them(tmp_path):
    (tmp_path / "program.py").write_text("a = 41\nb = a + 1\n")
    page = "```console\n$ python -m pdb program.py\n(Pdb) next\n(Pdb) p a + 1\n(Pdb) quit\n```\n"
    assert doc_sessions.performed(page, tmp_path) == (
        "```console\n$ python -m pdb program.py\n> program.py(1)<module>()\n-> a = 41\n(Pdb) next\n"
        "> program.py(2)<module>()\n-> b = a + 1\n(Pdb) p a + 1\n42\n(Pdb) quit\n```\n"
    )


def test_a_change_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "file.py").write_text("a = 1\na = 1\n")
    with pytest.raises(AssertionError, match="2 places"):
        doc_sessions.performed("```diff\n--- file.py\n-a = 1\n+a = 2\n```\n", tmp_path)


def test_writing_a_page_changes_only_what_is_no_longer_so():
    page = "$ python train.py\nloss 1.2346  0.01 s\nmodel.py:103\nlast\n"
    now = "$ python train.py\nnew\nloss 1.2350  0.29 s\nmodel.py:104\nlast\n"
    assert doc_sessions.refreshed(page, now) == "$ python train.py\nnew\nloss 1.2346  0.01 s\nmodel.py:104\nlast\n"
