"""Check mode finds every seeded fault of faults/*.cu on the line marked there, and nothing in the corrected kernels."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from cudasim import module
from cudasim.__main__ import _parser, prepare

pytestmark = pytest.mark.compiler

FAULTS = Path(__file__).parent / "faults"
HEADERS = Path(__file__).parents[2] / "kernels" / "cuda"  # wrappers of PTX instructions


@dataclass
class Case:
    file: Path
    kernel: str
    call: str  # as on the command line
    says: str
    lines: tuple  # marked FAULT; of a race both sides


def _cases():
    for file in sorted(FAULTS.glob("*.cu")):
        call = says = case = None
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if found := re.match(r"// (RUN|SAYS): (.*)", line):
                call, says = (found[2], says) if found[1] == "RUN" else (call, found[2])
            elif found := re.search(r"__global__ void (\w+)\(", line):
                case = Case(file, found[1], call, says, ())
                yield case
            elif line.endswith("// FAULT"):
                case.lines += (number,)


CASES = list(_cases())
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)


def _run(case, fixed, schedule):
    words = ["check", str(case.file), "--kernel", case.kernel, "--define", f"FIXED={fixed}", "-I", str(HEADERS)]
    words += shlex.split(case.call)
    return prepare(_parser().parse_args(words))(schedule)


def test_there_are_enough():
    assert len(CASES) >= 25
    assert all(case.call and case.says and case.lines for case in CASES)


@each_case
def test_fault_is_found_on_its_line(case):
    with pytest.raises(module.SimError) as error:
        _run(case, 0, "forward")
    assert case.says in str(error.value)
    _names_line(case, error.value)


def _names_line(case, error):
    first = str(error).splitlines()[0]
    assert re.search(rf"{case.file.name}:(\d+)", first)[1] in map(str, case.lines)
    assert f"{case.kernel}, block (" in first and "thread (" in first


@each_case
@pytest.mark.parametrize("schedule", ["reversed", "random"])
def test_fault_is_found_in_any_order(case, schedule):
    with pytest.raises(module.SimError) as error:
        _run(case, 0, schedule)
    _names_line(case, error.value)


@each_case
def test_corrected_kernel_is_clean(case):
    results = [_run(case, 1, schedule) for schedule in module.SCHEDULES]
    for result in results[1:]:
        assert all((a == b).all() for a, b in zip(result, results[0], strict=True))
