"""Files, folders, patterns and standard input -> documents: which files, in what order, in which units of work."""

import codecs
import gzip
import io
import json
import os
import sys
import tracemalloc
from collections import Counter

import pytest

from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import cuts, documents, json_lines, work_units
from tiny_transformer_np.corpus.documents import Unit, find_sources, read, save_standard_input, units


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(*paths, field="text", skipped=None, **options):
    """The texts of all documents of these files, joined from their pieces."""
    found, begun = [], ""
    for unit in units(find_sources(paths, **options)):
        for piece in read(unit, field, skipped):
            assert piece.text
            begun += piece.text
            if piece.ends_document:
                found.append(begun)
                begun = ""
    assert begun == ""
    return found


@pytest.fixture
def small(monkeypatch):
    """Units and slices of a few bytes."""
    monkeypatch.setattr(work_units, "UNIT", 64)
    monkeypatch.setattr(work_units, "_WINDOWS", (8, 32))
    monkeypatch.setattr(documents, "SLICE", 16)
    monkeypatch.setattr(json_lines, "_SLICE", 16)


def as_released(path, keep_marks=False):
    """A file as versions up to 0.1.0 read it, and this one without keep_marks."""
    text = path.read_bytes().decode().replace("\r\n", "\n").replace("\r", "\n")
    return text if keep_marks else text.removeprefix("\ufeff")


# ------------------------------------------------------------------------------------------- which files


def test_files_of_a_folder_come_in_the_order_of_names_and_others_are_left_out(tmp_path):
    for name in ("b.md", "a.TXT", "sub/deep/c.txt", "c.jsonl", "z.txt.gz", "d.csv", "e", ".hidden.txt", ".git/f.txt"):
        content = b'{"text": "c.jsonl"}' if name.endswith("jsonl") else name.encode()
        write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "sub/mark.txt", codecs.BOM_UTF8)
    assert texts(tmp_path) == ["a.TXT", "b.md", "c.jsonl", "sub/deep/c.txt", "z.txt.gz"]
    assert texts(tmp_path / "e", tmp_path / "d.csv", tmp_path / "b.md") == ["e", "d.csv", "b.md"]  # as given


def test_links_are_followed_and_circles_of_folders_end(tmp_path):
    write(tmp_path / "data/a.txt", "a")
    write(tmp_path / "elsewhere/b.txt", "b")
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/c.txt").symlink_to(tmp_path / "elsewhere/b.txt")
    for name in ("data/up", "elsewhere/up", "data/up2"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "data/self").symlink_to("self")
    assert texts(tmp_path / "data") == ["a", "b", "b"]
    assert texts(tmp_path / "data/**/*.txt") == ["a", "b"]  # of a pattern, links to folders are not


def test_patterns(tmp_path):
    for name in ("a1.txt", "a2.txt", "b.txt", "sub/a3.txt", ".a4.txt", "[x].txt"):
        write(tmp_path / name, name)
    assert texts(tmp_path / "a*.txt") == ["a1.txt", "a2.txt"]
    assert texts(tmp_path / "**/a?.txt") == ["a1.txt", "a2.txt", "sub/a3.txt"]
    assert texts(tmp_path / ".a*") == [".a4.txt"]
    assert texts(tmp_path / "su*") == ["sub/a3.txt"]  # folders, where no file matches
    assert texts(tmp_path / "[x].txt") == ["[x].txt"]  # a file of this name
    for pattern in ("*.md", "**x/*", "none/*.txt"):
        with pytest.raises(ConfigError, match=r"no file matches|cannot search"):
            find_sources([tmp_path / pattern])


def test_a_file_that_is_given_twice_is_read_twice_and_that_is_said(tmp_path, capsys):
    path = write(tmp_path / "a.txt", "a")
    write(tmp_path / "b.txt", "b")
    assert texts(tmp_path) == ["a", "b"]
    assert capsys.readouterr().err == ""
    assert texts(tmp_path, path) == ["a", "b", "a"]
    assert capsys.readouterr().err == f"note: data file {path} is given twice, and read twice\n"


# --------------------------------------------------------------------------------------------- plain text


@pytest.mark.parametrize("size", [4, 5, 6, 1000])
def test_a_text_file_is_one_document_and_reads_as_python_reads_it(size, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "SLICE", size)
    path = tmp_path / "a.txt"
    for content in ("añ日\r\n\U0001f600\n\r\rend\r", "\0 a\0\n", "\ufeffa \ufeffb", "\x85\u2028 x"):
        path.write_bytes(content.encode())
        expected = path.read_text(encoding="utf-8-sig")
        assert texts(path) == [expected] == [as_released(path)]  # as up to now
        assert texts(path, keep_marks=True) == [as_released(path, keep_marks=True)]
        write(tmp_path / "b.txt.gz", gzip.compress(content.encode()))
        assert texts(tmp_path / "b.txt.gz") == [expected]


def test_old_runs_read_every_file_as_text(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n')
    assert texts(path) == ["one"]
    assert texts(path, plain=True) == ['{"text": "one"}\n']
    wide = write(tmp_path / "b.txt", "text without a mark".encode("utf-16-le"))
    assert texts(wide, plain=True) == [as_released(wide)]


def test_json_given_as_plain_text_is_said(tmp_path, capsys):
    path = write(tmp_path / "a.txt", '{"text": "one"}\n{"text": "two"}\n')
    assert texts(path) == [path.read_text()]
    note = capsys.readouterr().err
    assert note.startswith(f"note: data file {path} is JSON") and "ends with .jsonl\n" in note
    write(tmp_path / "b.txt", path.read_bytes())
    find_sources([tmp_path])
    assert capsys.readouterr().err.endswith(".jsonl (and 1 more)\n")
    write(path, '[\n {"text": "one"}]')
    texts(path)
    assert "jq -c '.[]'" in capsys.readouterr().err
    write(path, "{ a text that begins with a brace }")
    texts(path)
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------------------- units of work


def test_a_large_file_is_divided_and_comes_back_whole(tmp_path, small):
    text = "".join(f"word{i} \r\nand é日本 more. " for i in range(50))
    path = write(tmp_path / "a.txt", "\ufeff" + text)
    found = units(find_sources([path]))
    assert len(found) > 20 and all(unit.size < 128 for unit in found)
    assert [unit.begins_document for unit in found] == [True] + [False] * (len(found) - 1)
    assert sum(unit.size for unit in found) == path.stat().st_size
    assert texts(path) == [text.replace("\r\n", "\n")]


def test_small_files_share_a_unit_and_units_can_be_written_as_json(tmp_path, small):
    for i in range(20):
        write(tmp_path / f"{i:02}.txt", f"text {i:02} " * 2)
    found = units(find_sources([tmp_path]))
    assert [len(unit.parts) for unit in found] == [4] * 5 and found[0].size == 64
    assert [Unit.from_json(json.loads(json.dumps(unit.to_json()))) for unit in found] == found
    assert str(found[0]) == f"{tmp_path / '00.txt'} and 3 more" and all(unit.begins_document for unit in found)
    pieces = [piece for unit in found for piece in read(unit)]
    assert [piece.path for piece in pieces] == [str(tmp_path / f"{i:02}.txt") for i in range(20)]
    assert all(piece.ends_document for piece in pieces)


def test_lines_of_json_are_divided_between_lines(tmp_path, small):
    values = ["é" * n for n in range(60)]
    lines = [json.dumps({"text": value, "x": 1}, ensure_ascii=False) for value in values]
    path = write(tmp_path / "a.jsonl", "\ufeff" + "\r\n".join(lines))
    found = units(find_sources([path]))
    assert len(found) > 30
    skipped = Counter()
    assert texts(path, skipped=skipped) == values[1:] and skipped == {"empty": 1}
    path.write_bytes("\n".join([*lines, '{"no": 1}', *lines]).encode())
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 61: "):
        texts(path)


def most_memory(path):
    """(characters, bytes that were allocated at the same time) of reading a file."""
    tracemalloc.start()
    try:
        n = sum(len(piece.text) for unit in units(find_sources([path])) for piece in read(unit))
        return n, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("word", ["word ", "x", "日\n"])
def test_a_text_of_one_long_line_takes_little_memory(word, tmp_path):
    n = 12_000_000 // len(word.encode())
    path = write(tmp_path / "a.txt", word * n)
    characters, peak = most_memory(path)
    assert characters == n * len(word) and peak < 8 * cuts.LONGEST
    packed = write(tmp_path / "bomb.txt.gz", gzip.compress(path.read_bytes()))
    assert packed.stat().st_size < 100_000
    characters, peak = most_memory(packed)
    assert characters == n * len(word) and peak < 8 * cuts.LONGEST


# ------------------------------------------------------------------------------------------- standard input


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (b"plain text", ".txt"),
        (b'{"text": "one"}\n', ".jsonl"),
        (gzip.compress(b"plain text"), ".txt.gz"),
        (gzip.compress(b'{"text": "one"}\n'), ".jsonl.gz"),
    ],
)
def test_standard_input_is_read_as_its_contents_say(content, ending, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    path = save_standard_input(tmp_path)
    assert path.name == f"standard-input{ending}" and os.listdir(tmp_path) == [path.name]
    assert texts("-", standard_input=path) == ["one" if "jsonl" in ending else "plain text"]


def test_standard_input_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    path = save_standard_input(tmp_path)
    with pytest.raises(ConfigError, match=r"standard input is not UTF-8.* iconv -f latin1 -t utf-8, before it"):
        texts("-", standard_input=path)
    with pytest.raises(ConfigError, match="standard input, cannot be read here"):
        texts("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="is closed"):
        save_standard_input(tmp_path)
