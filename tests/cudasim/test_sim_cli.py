"""`python -m cudasim`: exit statuses, the table, and one line for what it does not understand."""

import re
from pathlib import Path

import pytest

from cudasim.__main__ import main

pytestmark = pytest.mark.compiler

FAULTS = Path(__file__).parent / "faults"
SOUND = ["--kernel", "missing_barrier", "--define", "FIXED=1", "--block", "64"]
ARRAYS = ["--args", "f32[64]=out", "f32[64]"]


def _run(capsys, *words):
    """(exit status, stdout, stderr without lines about compiling)"""
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, [line for line in err.splitlines() if not line.startswith("cuda-sim:")]


def test_clean_kernel_prints_its_traffic(capsys):
    status, out, err = _run(capsys, "check", FAULTS / "races.cu", *SOUND, "--schedule", "all", *ARRAYS)
    assert (status, err) == (0, [])
    assert out.startswith("clean\n")
    assert "global  read     256        8      8" in out


def test_fault_ends_with_status_1(capsys):
    status, out, _ = _run(capsys, "check", FAULTS / "races.cu", "--kernel", "missing_barrier", "--block", "64", *ARRAYS)
    assert status == 1
    assert "races.cu:" in out and "race: reads shared `tile`" in out


def test_headers_macros_and_types_of_the_source_are_given(capsys, tmp_path):
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "number.h").write_text("#pragma once\n#include <cuda_fp16.h>\ntypedef NUMBER number;\n")
    source = tmp_path / "twice.cu"
    source.write_text("""#include "number.h"
extern "C" __global__ void twice(number* out, const number* x) {
  out[threadIdx.x] = __float2half_rn(2 * __half2float(x[threadIdx.x]));
}
""")
    words = ["check", source, "--block", "32", "--args", "number[32]=out", "number[32]"]
    given = ["-I", tmp_path / "headers", "--define", "NUMBER=__half", "--type", "number=f16"]
    status, out, err = _run(capsys, *words, *given)
    assert (status, err) == (0, []) and re.search(r"twice.cu:3  global  read +64 ", out)
    assert "cannot read the argument 'number[32]=out'" in _run(capsys, *words)[2][0]
    status, _, err = _run(capsys, *words, "--type", "number=f17")
    assert status == 2 and "'number=f17' is no NAME=TYPE" in err[0]


def test_run_does_not_check(capsys):
    status, out, _ = _run(capsys, "run", FAULTS / "races.cu", "--kernel", "missing_barrier", "--block", "64", *ARRAYS)
    assert (status, out) == (0, "done\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check"], "required: FILE.cu, --block"),
        (["check", "absent.cu", "--block", "1"], "absent.cu"),
        (["check", FAULTS / "races.cu", "--block", "0"], "--block"),
        (["check", FAULTS / "races.cu", "--block", "1"], "several kernels; choose one with --kernel: missing_barrier,"),
        (["check", FAULTS / "races.cu", "--block", "1", "--kernel", "x"], "no kernel 'x'"),
        (["check", FAULTS / "races.cu", *SOUND], "takes 2 arguments (out, x), not 0"),
        (["check", FAULTS / "races.cu", *SOUND, "--args", "f32[64]", "f33[64]"], "'f33[64]'"),
        (
            ["check", FAULTS / "races.cu", *SOUND, "--args", "f32[64]", "i32=5"],
            "x is declared const float*, but int is",
        ),
        (["check", FAULTS / "races.cu", *SOUND, "--args", "f32[64]", "f32[64]=a"], "'a' is no number"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(capsys, words, says):
    status, out, err = _run(capsys, *words)
    assert (status, out, len(err)) == (2, "", 1)
    assert says in err[0]
