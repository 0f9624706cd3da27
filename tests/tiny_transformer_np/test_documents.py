"""Files of many kinds -> documents in pieces: what is read, what is refused, where long texts are cut."""

import pytest

from tiny_transformer_np.corpus import cuts, work_units
from tiny_transformer_np.corpus.documents import find_sources, read, units


def documents(*paths, **options):
    """The texts of all documents of these files, joined from their pieces."""
    found, begun = [], ""
    for unit in units(find_sources(paths)):
        for piece in read(unit, **options):
            begun += piece.text
            if piece.ends_document:
                found.append(begun)
                begun = ""
    assert begun == ""
    return found


@pytest.fixture
def small(monkeypatch):
    """Units, pieces and windows of a few bytes."""
    monkeypatch.setattr(work_units, "UNIT", 64)
    monkeypatch.setattr(work_units, "_WINDOWS", (8, 32))


def test_text_files_are_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    (tmp_path / "b.md").write_text("four")
    assert documents(tmp_path) == ["one\ntwo\nthree", "four"]


def test_a_large_file_is_divided_and_comes_back_whole(tmp_path, small):
    text = "".join(f"word{i} \r\nand é日本 more. " for i in range(50))
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert len(units(find_sources([tmp_path]))) > 10
    assert documents(tmp_path) == [text.replace("\r\n", "\n")]
    assert cuts.SLICE == 1 << 19
