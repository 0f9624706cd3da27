"""The benchmarks: they start from any folder and refuse a mistake in one line; what they say of the engine is so."""

import ast
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import kernels
from benchmarks import debugging_overhead, zipf_text

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(
    str(path) for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
)


def test_each_refuses_an_unknown_flag_in_one_line(tmp_path):
    assert len(PROGRAMS) >= 10
    refuse = (
        "import runpy, sys\n"
        "for program in sys.argv[1:]:\n"
        "    path, sys.argv = list(sys.path), [program, '--nonsense']\n"
        "    sys.path.insert(0, program.rpartition('/')[0])\n"
        "    try:\n"
        "        runpy.run_path(program, run_name='__main__')\n"
        "    except SystemExit as left:\n"
        "        print(left.code)\n"
        "    sys.path[:] = path\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", refuse, *PROGRAMS], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.stdout.split() == ["2"] * len(PROGRAMS), (result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == len(PROGRAMS) and all(" argument" in line for line in lines), result.stderr


def test_the_aids_whose_cost_is_measured_are_all_that_the_engine_has():
    found = Counter()
    for name in ("graph", "_tensor"):
        for node in ast.walk(ast.parse((ROOT / "minigrad" / f"{name}.py").read_text(encoding="utf-8"))):
            test = ast.unparse(node.test) if isinstance(node, ast.If) else ""
            if any(aid in test for aid in ("observer", ".hooks", "record_calls")):
                found[test] += 1
    assert found == Counter(debugging_overhead.A_NODE) + Counter(debugging_overhead.A_LEAF)


def test_the_cost_of_the_aids_is_measured(capsys):
    with kernels.use("reference"):  # nothing is compiled for this
        debugging_overhead.main(["--case", "tiny", "--steps", "2"])
    assert "tiny: 26 nodes and 29 gradients of leaves a step; conditions of the aids" in capsys.readouterr().out


@pytest.mark.linux
@pytest.mark.slow
def test_preparing_batches_and_steps_are_measured(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "data.py", "--quick", "--out-dir", tmp_path]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    rows = json.loads((tmp_path / "data.json").read_text())["rows"]
    assert [row["what"] for row in rows[:3]] == [
        "prepare, 1 process", "batches of 12 x 64, 0 workers", "batches of 12 x 64, 2 workers"
    ]  # fmt: skip
    assert all(row["rates"]["shards"] > 0 for row in rows[:3]) and rows[0]["bytes"]["shards"] > 0
    assert [(row["size"], row["workers"]) for row in rows[3:]] == [
        (10**6, 0),
        (10**6, 2),
        (2 * 10**6, 0),
        (2 * 10**6, 2),
    ]
    assert all(row["seconds"] > 0 and 0 <= row["waited"] < 1 and row["anonymous"] > 0 for row in rows[3:])


def test_the_made_text_is_the_same_bytes_everywhere(tmp_path):
    text = zipf_text.write_text(tmp_path / "a.txt", 300_000).read_bytes()
    assert hashlib.sha256(text).hexdigest() == "5b942286f4b1ee3f70fa18e9c2befe647db9af2a8edf4e8707d0eb41f7cce93a"
    lines = zipf_text.write_jsonl(tmp_path / "a.jsonl", 300_000).read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line)["text"] for line in lines]
    assert "\n\n".join(documents).encode() == text
    assert abs(sum(len(document.encode()) for document in documents) - 300_000) < 4
