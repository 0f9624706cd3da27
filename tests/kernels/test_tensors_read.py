"""safetensors files that another program made, or a forger: one line says what is wrong, whatever the header says."""

import json
import os
import struct

import numpy as np
import pytest

from kernels.system import tensors
from kernels.system.errors import UserError

KEY = "k"
META = {"__metadata__": {KEY: "{}"}}


def array(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {**META, "a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def write(path, header, body=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def refusal(path, **how):
    with pytest.raises(UserError) as caught:
        tensors.read(path, "file", KEY, **how)
    message = str(caught.value)
    assert str(path) in message and len(message.splitlines()) == 1 and len(message) < 800
    return message


def test_what_is_written_is_read(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
    with open(tmp_path / "f", "wb") as file:
        tensors.write(file, arrays, {KEY: '{"a": [1, 2.5, null]}'})
    seen = []
    found, meta = tensors.read(tmp_path / "f", "file", KEY, lambda meta, header: seen.append((meta, header)))
    assert meta == {"a": [1, 2.5, None]} and found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], x) and found[name].dtype == x.dtype for name, x in arrays.items())
    assert seen == [(meta, {"x": ("F32", (2, 3)), "n": ("I64", ())})]


HEADERS = {
    "negative": array(shape=(-2,)), "enormous": array(shape=(2**63, 2**63)), "short": array(offsets=(0, 4)),
    "beyond": array(offsets=(0, 80)), "empty, and enormous": array(shape=(0, *[2**60] * 5), offsets=(0, 0)),
    "70 axes": array(shape=[1] * 70, offsets=(0, 4)), "unknown": array("X"), "half a byte": array("F4"),
    "bfloat16": array("BF16", offsets=(0, 4)), "no offsets": {**META, "a": {"dtype": "F32", "shape": [2]}},
    "number": {**META, "a": 3}, "number in metadata": {"__metadata__": {KEY: 3}}, "list": [], "deep": b'{"a":' * 10**5,
    "long name": b'{"' + b"x" * 10**6 + b'":3}', "bytes": b"\xff\xfe", "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_are_none(tmp_path, header):
    refusal(write(tmp_path / "f", header))


TEXTS = {
    "[" * 10**6: "nested too deep", "9" * 5000: "damaged", "": "damaged", "{} x": "damaged", "[1]": "expected an",
    '{"a": 1e999}': "1e999' is too large", '{"a": NaN}': "NaN is not", '{"a": -Infinity}': "-Infinity is not",
    '{"a": 1, "a": 2}': "'a' stands twice", '{"b": {"\\u001b": 1, "\\u001b": 2}}': r"'\x1b' stands twice",
    " " * (tensors.MAX_TEXT + 1): "expected at most",
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), TEXTS.items(), ids=[text[:9] for text in TEXTS])
def test_json_that_is_none(tmp_path, text, said):
    assert said in refusal(write(tmp_path / "f", {"__metadata__": {KEY: text}}, b""))


def test_numbers_that_are_not_finite_are_read_where_asked_for(tmp_path):
    write(tmp_path / "f", {"__metadata__": {KEY: '{"a": [NaN, 1e999]}'}}, b"")
    _, meta = tensors.read(tmp_path / "f", "file", KEY, finite=False)
    assert np.isnan(meta["a"][0]) and meta["a"][1] == np.inf


def test_what_must_not_be_read_is_not(tmp_path):
    def check(meta, header):
        raise UserError("it is too large")

    write(tmp_path / "f", array())
    assert refusal(tmp_path / "f", check=check).endswith("f cannot be used: it is too large")


def test_other_files(tmp_path):
    assert "No such file" in refusal(tmp_path / "none")
    assert "not a regular file" in refusal(tmp_path)
    assert "not a file of this program" in refusal(write(tmp_path / "f", {"a": array()["a"]}))


@pytest.mark.posix
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")
