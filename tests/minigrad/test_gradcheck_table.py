"""`python -m minigrad.gradient_checking`: a row for every operation, a picture, status 1 for a wrong gradient."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minigrad import ops
from minigrad.gradient_checking import table
from minigrad.gradient_checking.__main__ import main
from minigrad.opcases import CASES
from minigrad.ops import activation


def test_every_operation_has_a_sample_call():
    assert {case.op for case in CASES} == set(ops.__all__)
    assert len({(case.op, case.case) for case in CASES}) == len(CASES)


def test_a_sample_call_calls_its_operation():
    """By name: a case that calls another operation would leave its own unchecked."""
    aliases = {"split": "getitem"}  # made of it
    for case in CASES:
        tensors = [table.Tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in case.arrays()]
        out = case.fn(*tensors)
        node = (out[0] if isinstance(out, (list, tuple)) else out).node
        assert node.op == aliases.get(case.op, case.op)


def test_the_whole_table():
    rows = table.rows()
    assert len(rows) == len(ops.__all__) * 2 * 2
    assert not [row.problem for row in rows if row.problem]
    assert all(row.error < 1e-9 for row in rows if row.dtype == "float64")
    assert any(row.error > 0 for row in rows if row.dtype == "float32")


def test_a_wrong_backward_function_shows_in_the_table_the_file_and_the_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(activation, "tanh_backward", lambda dout, x: -dout / np.cosh(x) ** 2)
    files = tmp_path / "rows.json", tmp_path / "map"  # matplotlib would write map.png
    files[0].symlink_to("target")
    assert main(["--op", "tanh", "--json", str(files[0]), "--plot", str(files[1])]) == 1
    printed = capsys.readouterr()
    assert "2.0e+00 !" in printed.out
    assert "likely cause: the sign is reversed" in printed.err
    rows = json.loads(files[0].read_text())
    assert [(row["backend"], row["dtype"], bool(row["problem"])) for row in rows] == [
        ("reference", "float64", True), ("reference", "float32", False),
        ("fast", "float64", True), ("fast", "float32", False)]  # fmt: skip
    assert files[0].is_symlink() and files[1].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map", "rows.json", "target"]


@pytest.mark.parametrize("spoil", [lambda d: d * np.float64(1.1), lambda d: d * np.float32(1 + 1e-4)])
def test_float32_is_compared_with_float64(monkeypatch, spoil):
    right = activation.tanh_backward

    def wrong_in_float32(dout, x):
        return spoil(right(dout, x)).astype(dout.dtype) if dout.itemsize == 4 else right(dout, x)

    monkeypatch.setattr(activation, "tanh_backward", wrong_in_float32)
    row = next(row for row in table.rows("tanh") if row.dtype == "float32")
    assert row.error > 5e-5
    assert row.problem


def test_the_command_prints_and_warns_of_nothing():
    command = [sys.executable, "-W", "error", "-m", "minigrad.gradient_checking", "--op", "add"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("add ")


def test_an_unknown_operation_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--op", "sine"])
    assert stopped.value.code == 2
    assert "no operation named 'sine'; there are add, sub" in capsys.readouterr().err
