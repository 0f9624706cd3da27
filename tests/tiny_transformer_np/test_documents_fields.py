"""Documents from the fields of .jsonl and .parquet files: their values, and what is said of files that have none."""

import gzip
import json
from collections import Counter

import pytest
from test_documents import texts, write

from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import documents, json_lines, work_units
from tiny_transformer_np.corpus.documents import find_sources, units


def lines(*values):
    return "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values)


# ---------------------------------------------------------------------------------------------- JSON lines


def test_values_are_kept_as_they_are_and_empty_ones_are_counted(tmp_path):
    values = ["one\r\ntwo", "\ufeffmark", "\0", "\U0001f600", " "]
    skipped = Counter()
    content = lines(*({"text": value} for value in values), "", {"text": ""}, " \t\r", {"text": None}, {"text": ""})
    assert texts(write(tmp_path / "a.jsonl", content), skipped=skipped) == values
    assert skipped == {"empty": 2, "null": 1}
    assert texts(write(tmp_path / "b.ndjson.gz", gzip.compress(content.encode()))) == values
    assert texts(write(tmp_path / "c.jsonl", lines({"body": "x", "text": 3})), field="body") == ["x"]


def test_other_fields_may_hold_anything(tmp_path):
    line = '{"n": ' + "9" * 10_000 + ', "x": [1e999, NaN, {"text": 2}], "text": "a"}'
    assert texts(write(tmp_path / "a.jsonl", line)) == ["a"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"content": "long", "id": "1", "n": 2}',
            "no field 'text', only 'content', 'id', 'n'; choose one: --field co",
        ),
        ("{}", "no field 'text', only none"),
        ('{"text": ["a"]}', "the field 'text' is a list; expected a string"),
        ('{"text": 1}', "the field 'text' is a number; expected a string"),
        ('{"text": {}}', "the field 'text' is an object; expected a string"),
        ('{"text": "tw', r"it is not JSON \(Unterminated string.*, character 10\)"),
        ('{"text": "a"} {"text": "b"}', "there is more behind the JSON object"),
        ('[{"text": "a"}]', r"it is a list; .* jq -c '\.\[\]' IN > OUT"),
        ("{", r"it is not JSON .*; expected an object in each line.* jq -c \. IN > OUT"),
        ('"text"', "it is a string; expected an object"),
        ("null", "it is null; expected an object"),
        ("\0\0", "it is not JSON"),
        ('{"text": "a", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "it is nested too deeply"),
        (r'{"text": "a\ud800b"}', r"the text has \\ud800, half of a surrogate pair.*; write \\ufffd"),
    ],
)
def test_a_line_that_is_no_document_is_named(line, expected, tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n\n' + line + "\n")
    with pytest.raises(ConfigError, match=rf"a\.jsonl, line 3: .*{expected}") as refused:
        texts(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    for bad, command in (
        ("é".encode("latin1"), "iconv -f latin1"),
        ("日".encode() + b"\xff", "iconv -c -f utf-8"),
        (b"\xed\xa0\x80", "iconv -c -f utf-8"),
    ):
        path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "' + bad + b'"}\n')
        with pytest.raises(ConfigError, match=rf"not UTF-8 text \(line 2, byte .* {command}"):
            texts(path)


def test_a_file_of_one_endless_line_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 1 << 20)
    monkeypatch.setattr(json_lines, "_SLICE", 1 << 16)
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "' + "x" * (3 << 20))
    with pytest.raises(ConfigError, match=r"line 2: here a line has more than 64 MiB; expected an object in each line"):
        texts(path)
    monkeypatch.setattr(work_units, "UNIT", 1 << 20)
    monkeypatch.setattr(work_units, "LONGEST_LINE", 1 << 20)
    with pytest.raises(ConfigError, match=r"a\.jsonl: around its byte [0-9,]+ a line has more than 64 MiB"):
        units(find_sources([path]))
    path = write(tmp_path / "a.jsonl", lines({"text": "x" * 900_000}, {"text": "y" * 900_000}, {"text": "z"}))
    assert list(map(len, texts(path))) == [900_000, 900_000, 1]


def test_a_long_value_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "SLICE", 20)
    value = "word " * 100
    path = write(tmp_path / "a.jsonl", lines({"text": value}, {"text": "short"}))
    pieces = [piece for unit in units(find_sources([path])) for piece in documents.read(unit)]
    assert len(pieces) > 20 and [piece.ends_document for piece in pieces].count(True) == 2
    assert "".join(piece.text for piece in pieces) == value + "short"


# ------------------------------------------------------------------------------------------------- Parquet


def parquet(path, columns, **options):
    """Write a Parquet file of {name: values or an Arrow array}."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.data
def test_rows_are_documents(tmp_path, monkeypatch):
    values = ["one\r\n", None, "", "two", "\0", "日本", "x" * 100] * 30
    path = parquet(tmp_path / "a.parquet", {"n": list(range(210)), "text": values}, row_group_size=7)
    for unit_size in (1, 5000, 1 << 24):
        monkeypatch.setattr(work_units, "UNIT", unit_size)
        found = units(find_sources([path]))
        assert len(found) == 30 if unit_size == 1 else len(found) < 30
        assert 0.9 * path.stat().st_size < sum(unit.size for unit in found) <= path.stat().st_size
        skipped = Counter()
        assert texts(path, skipped=skipped) == [value for value in values if value]
        assert skipped == {"empty": 30, "null": 30}
    assert texts(parquet(tmp_path / "none.parquet", {"text": ["a"][:0]})) == []


@pytest.mark.data
def test_all_types_of_strings_are_read(tmp_path):
    import pyarrow

    plain = pyarrow.array(["a", "b", "a"])
    for array in (plain, plain.cast(pyarrow.large_string()), plain.dictionary_encode()):
        assert texts(parquet(tmp_path / "a.parquet", {"text": array})) == ["a", "b", "a"]


@pytest.mark.data
def test_columns_that_have_no_text_are_named(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"n": [1], "content": ["x"], "l": [["a"]], "b": [b"x"]})
    for field, expected in {
        "text": "has no column 'text', only 'n', 'content', 'l', 'b'; choose one: --field content",
        "n": "column 'n' of data file .* is of int64; expected strings",
        "l": "is of list<",
        "b": "is of binary; expected strings",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            texts(path, field=field)
    assert texts(path, field="content") == ["x"]


@pytest.mark.data
def test_damaged_parquet_files_are_refused(tmp_path):
    import pyarrow

    whole = parquet(tmp_path / "a.parquet", {"text": ["some text"] * 99}, compression="none").read_bytes()
    for content, expected in (
        (whole[:-20], "is damaged: .*; copy or download it again"),
        (whole[:20] + b"\xff" * 8 + whole[28:], "is damaged: "),
        (b"PAR1", "is damaged: "),
        (b"some text", "is not a Parquet file, although its name says so"),
        (b"", "is empty"),
    ):
        with pytest.raises(ConfigError, match=rf"data file .*b\.parquet {expected}") as refused:
            texts(write(tmp_path / "b.parquet", content))
        assert "\n" not in str(refused.value)
    wrong = pyarrow.array([b"caf\xe9"]).view(pyarrow.string())
    with pytest.raises(ConfigError, match=r"is damaged: .*utf-8"):
        texts(parquet(tmp_path / "c.parquet", {"text": wrong}))
    packed = write(tmp_path / "a.parquet.gz", gzip.compress(whole))
    with pytest.raises(ConfigError, match="only unpacked"):
        texts(packed)
