"""Files that are no text, damaged, or gone: refused in one line that says what they are and what to do."""

import codecs
import gzip
import os
import random
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_documents import texts, write

from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.corpus import streams, work_units
from tiny_transformer_np.corpus.documents import find_sources, read, units

TEXT = "Some text, and more of it.\n" * 20


def refused(expected, *paths):
    """Reading these files is refused with one line that matches; -> the line."""
    with pytest.raises(ValueError, match=expected) as caught:
        texts(*paths)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


# ----------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_wide_text_is_told_with_and_without_a_mark(encoding, packed, tmp_path):
    name = encoding.upper()[:6] + encoding.upper()[7:]
    content = (TEXT + "é").encode(encoding)
    path = write(tmp_path / ("a.txt" + ".gz" * packed), gzip.compress(content) if packed else content)
    assert run_advice(refused(f"is {name}, not UTF-8 text; convert it: ", path)) == TEXT + "é"
    if not encoding.endswith("e"):
        other = codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be") if "16" in encoding else codecs.BOM_UTF32_BE + b"\0\0\0a"
        refused(f"is {name}, not", write(tmp_path / "b.txt", other))


def run_advice(message):
    """Run the command at the end of a message -> the text that it makes."""
    command = message.partition(": iconv")[2] and "iconv" + message.partition(": iconv")[2]
    command = command or "gzip -dc" + message.partition(": gzip -dc")[2]
    subprocess.run(command, shell=True, check=True)
    return texts(Path(shlex.split(command)[-1]))[0]


@pytest.mark.parametrize("name", ["a.txt", "with a space.md", "it's", "a.txt.gz", "d.d/a"])
def test_the_command_that_is_advised_converts_the_file(name, tmp_path):
    for content, byte, expected in (
        ("na\u00efve".encode("latin1"), 2, "na\u00efve"),
        ("a \u201cquote\u201d, caf\u00e9".encode("cp1252"), 2, "a \u201cquote\u201d, caf\u00e9"),
    ):
        path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
        message = refused(rf"is not UTF-8 text \(byte {byte}\); if it is Latin-1, convert it: .*iconv -f ", path)
        assert run_advice(message) == expected


def test_damaged_utf8_is_told_from_latin1(tmp_path):
    damaged = write(tmp_path / "a.txt", "日本".encode() + b"\xff and more")
    refused(r"\(byte 6\); the text before it is UTF-8; to leave out what is damaged: iconv -c -f utf-8 ", damaged)
    damaged = write(tmp_path / "a.txt", b"abc\xed\xa0\x80\xed\xb0\x80d")
    refused(
        r"\(byte 3\); half of a surrogate pair, which is no character; to leave out what is damaged: iconv", damaged
    )
    damaged = write(tmp_path / "a.txt", "日本".encode()[:-1])
    refused(r"not UTF-8 text \(byte 3\)", damaged)


def test_the_byte_of_an_error_is_counted_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(work_units, "UNIT", 100)
    monkeypatch.setattr(work_units, "_WINDOWS", (8, 32))
    path = write(tmp_path / "a.txt", codecs.BOM_UTF8 + TEXT.encode() + b"\xff" + TEXT.encode())
    refused(rf"not UTF-8 text \(byte {3 + len(TEXT)}\)", path)


# ------------------------------------------------------------------------------------ what is no text at all


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "is empty; expected text"),
        ("a.txt", codecs.BOM_UTF8, "is empty; expected text"),
        ("a.txt.gz", b"", "is empty; expected text"),
        ("a.txt.gz", gzip.compress(b""), "is empty; expected text"),
        ("a.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "is not text: it is a PDF document; make text of it: pdftotext"),
        ("a.docx", b"PK\x03\x04\x14\0\x06\0", r"is not text: it is a ZIP archive, as \.docx"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0", "is not text: it is a picture"),
        ("a", b"\x1f\x8b\x08\0", r"is not text: it is packed by gzip; unpack it, or .* \.txt\.gz"),
        ("a", b"\x28\xb5\x2f\xfd\x04", r"is not text: it is packed by zstd; unpack it, or .* \.txt\.zst"),
        ("a.bz2", b"BZh91AY&SY\xff", "is not text: it is packed by bzip2; unpack it: bunzip2"),
        ("a.txt", b"PAR1\x15\x04\xff", r"is not text: it is a Parquet file; .* \.parquet"),
        ("a.pkl", b"\x80\x04\x95\0", "is not text: it is a pickle, which is never loaded"),
        ("a.tar", b"a" * 257 + b"ustar\0", "is a tar archive, not text; unpack it: tar -xf"),
        ("a.txt.gz", gzip.compress(b"a" * 257 + b"ustar\0"), "is a tar archive"),
        ("a.bin", bytes(range(256)), "is not text: it has null bytes, and is not UTF-8"),
    ],
)
def test_what_is_no_text_is_told(name, content, expected, tmp_path):
    refused(rf"^data file .*{name} {expected}", write(tmp_path / name, content))


def test_text_that_begins_like_a_file_of_another_kind_is_text(tmp_path):
    for content in (
        "%PDF- is how PDF files begin",
        "PK\x03\x04",
        "BZh",
        "GIF89a",
        "\0\0\0\0 nulls",
        "a\0b\0" * 3,
        "MZ",
    ):
        assert texts(write(tmp_path / "a.txt", content)) == [content]


def test_paths_that_have_no_text_are_told(tmp_path):
    refused(r"no file matches the pattern .*\*\.txt; give the name of a file", tmp_path / "*.txt")
    refused("no text: expected names that end with .txt, .md, .*but it has no files", tmp_path)
    for name in ("a.csv", "b.csv", "c.py", "README"):
        write(tmp_path / name, "text")
    refused(r"but it has 2 with \.csv, 1 with no ending, 1 with \.py; text with another", tmp_path)
    write(tmp_path / "sub/a.txt", "")
    refused("every file of text in .* is empty; expected text", tmp_path)
    (tmp_path / "sub/b.txt").symlink_to("gone")
    refused(r"cannot read data file .*b\.txt: No such file", tmp_path)
    (tmp_path / "sub/b.txt").unlink()
    os.mkfifo(tmp_path / "sub/b.txt")
    refused(r"cannot read data file .*b\.txt: it is a pipe; save what it gives in a file", tmp_path)
    refused("it is a pipe", tmp_path / "sub/b.txt")
    refused("it is a device", "/dev/zero")
    refused("No such file", tmp_path / "none.txt")
    write(tmp_path / os.fsdecode(b"sub/caf\xe9.md"), "text")
    refused("is not UTF-8; rename it", tmp_path)


# -------------------------------------------------------------------------------------------- packed files


def packed_by_zstd(data):
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = [
    pytest.param(gzip.compress, ".gz", id="gzip"),
    pytest.param(packed_by_zstd, ".zst", id="zstd", marks=pytest.mark.data),
]


@pytest.mark.parametrize(("pack", "suffix"), PACKERS)
def test_packed_files(pack, suffix, tmp_path):
    path = tmp_path / f"a.txt{suffix}"
    noise = os.urandom(3000).hex()
    whole = pack(noise.encode())
    assert texts(write(path, whole)) == [noise]
    assert texts(write(path, whole + pack(b"") + pack(b" and more"))) == [noise + " and more"]  # members, frames
    for cut in (1, 9, 1000):
        refused(f"a.txt{suffix} is cut off: its end is missing; copy or download it again", write(path, whole[:-cut]))
    refused("is damaged: .* says '", write(path, whole[:20] + bytes(40) + whole[60:]))
    refused("is damaged: ", write(path, whole + b"garbage"))
    refused(f"is not packed by .*, although its name ends with {suffix}; rename it", write(path, TEXT))
    lines = pack(b'{"text": "one"}\n{"text": "two"}')
    assert texts(write(tmp_path / f"a.jsonl{suffix}", lines)) == ["one", "two"]


@pytest.mark.data
def test_a_zstd_file_with_skippable_frames_is_read(tmp_path):
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert texts(write(tmp_path / "a.txt.zst", skippable + packed_by_zstd(b"text") + skippable)) == ["text"]


def test_without_pyarrow_the_command_that_installs_it_is_said(tmp_path, monkeypatch):
    find_spec = streams.importlib.util.find_spec
    monkeypatch.setattr(streams.importlib.util, "find_spec", lambda name: name != "pyarrow" and find_spec(name))
    for name in ("a.parquet", "a.txt.zst", "a.jsonl.zst"):
        refused("needs pyarrow, of the extra data: .* -m pip install pyarrow$", write(tmp_path / name, "anything"))
    assert texts(write(tmp_path / "a.txt", "text")) == ["text"]


# ------------------------------------------------------------------------- files that change, vanish, or fail


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", pytest.param("a.parquet", marks=pytest.mark.data)])
def test_a_file_that_changes_while_it_is_read_is_told(name, tmp_path):
    path = tmp_path / name
    if name == "a.parquet":
        from test_documents_fields import parquet

        parquet(path, {"text": ["one", "two"] * 10_000}, row_group_size=1000)
    elif name == "a.txt.gz":
        write(path, gzip.compress(b"word " * 1_000_000))
    else:
        write(path, ('{"text": "%s"}\n' % ("x" * 488) if name == "a.jsonl" else "word " * 100) * 8000)
    before = units(find_sources([path]))
    pieces = read(before[0])
    next(pieces)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(ConfigError, match=f"{name} changed while it was read; start again"):
        list(pieces)
    with pytest.raises(ConfigError, match="changed while it was read"):
        list(read(before[0]))
    path.unlink()
    with pytest.raises(ConfigError, match=r"cannot read data file .*: No such file"):
        list(read(before[0]))


def test_a_file_that_is_cut_short_while_it_is_read_is_told(tmp_path):
    path = write(tmp_path / "a.txt", "word " * 800_000)
    pieces = read(units(find_sources([path]))[0])
    next(pieces)
    os.truncate(path, 10)
    with pytest.raises(ConfigError, match="changed while it was read"):
        list(pieces)


@pytest.mark.linux
def test_a_file_whose_reading_fails_is_told(tmp_path):
    refused("cannot read data file /proc/self/mem: ", "/proc/self/mem")
    assert sys.platform == "linux"


# --------------------------------------------------------------------------------------------------- at random


def sound_files(folder):
    """{name: contents} of a sound file of each kind."""
    text = "".join(rng.choice("abc é日\n\r .,") for rng in [random.Random(1)] for _ in range(2000)).encode()
    lines = b"".join(b'{"n": [1, {"a": 2.5}], "text": "line %d"}\n' % i for i in range(40))
    found = {"a.txt": text, "a.jsonl": lines, "a.txt.gz": gzip.compress(text), "a.jsonl.gz": gzip.compress(lines)}
    if streams.importlib.util.find_spec("pyarrow"):
        from test_documents_fields import parquet

        columns = {"text": [f"text {i}" for i in range(200)], "n": list(range(200))}
        for name, options in {"a.parquet": {}, "b.parquet": {"compression": "none", "use_dictionary": False}}.items():
            found[name] = parquet(folder / name, columns, row_group_size=50, **options).read_bytes()
        found["a.txt.zst"] = packed_by_zstd(text)
    return found


def mutated(rng, content):
    """Contents with some bytes changed, put in or left out, or their end cut off."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 3, 20])):
        place, kind = rng.randrange(len(content)), rng.random()
        if kind < 0.5:
            content[place] = rng.randrange(256)
        elif kind < 0.7:
            del content[place : place + rng.randint(1, 20)]
        elif kind < 0.8:
            del content[place + 1 :]
        else:
            content[place:place] = rng.randbytes(rng.randint(1, 10))
        content = content or bytearray(b"x")
    return bytes(content)


def test_files_with_random_damage_are_read_or_refused_in_one_line(tmp_path):
    rng = random.Random(24)
    files = sound_files(tmp_path)
    outcomes = Counter()
    for name, content in files.items():
        for _ in range(60):
            path = write(tmp_path / name, mutated(rng, content))
            try:
                texts(path)
                outcomes[name, "read"] += 1
            except ConfigError as error:
                outcomes[name, "refused"] += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert all(outcomes[name, "refused"] > 20 for name in files) and outcomes["a.txt", "read"] > 5, outcomes
