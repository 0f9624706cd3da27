"""benchmarks/gpu_report.py: what it reads, measures and writes, on the simulated device."""

import itertools
import json

import numpy as np
import pytest

from benchmarks import gpu_report, gpu_times
from benchmarks.kernel_costs import CASES, SMALL, least_bytes
from kernels import KERNELS, backend

reference = backend("reference")

XML = """<testsuites><testsuite>
<testcase name="good"><properties><property name="error gelu_forward float32" value="1e-7"/></properties></testcase>
<testcase name="better"><properties><property name="error gelu_forward float32" value="1e-8"/></properties></testcase>
<testcase name="bad"><failure message="error 0.5&#10;more">text</failure></testcase>
<testcase name="left out"><skipped/></testcase>
</testsuite></testsuites>"""


def test_results_are_read():
    assert gpu_report.read_results(XML) == {
        "passed": 2, "skipped": 1, "problems": ["bad: error 0.5"], "errors": {"gelu_forward": {"float32": 1e-7}},
    }  # fmt: skip


def test_every_kernel_has_a_cost():
    assert {case.name for case in CASES} == {name for names in KERNELS.values() for name in names}


@pytest.mark.parametrize(
    ("kernel", "parameters_or_elements", "bytes_each"),
    [("fused_adamw_step", SMALL.P, 28), ("gelu_backward", SMALL.N * 4 * SMALL.C, 12), ("cast", SMALL.P, 6)],
)
def test_least_bytes(kernel, parameters_or_elements, bytes_each):
    case = next(case for case in CASES if case.name == kernel)
    args = case.arguments(SMALL, np.random.default_rng(0), np.dtype(np.float32))
    least = least_bytes(case, args, getattr(reference, kernel)(*args))
    assert least == pytest.approx(parameters_or_elements * bytes_each, rel=1e-4)


@pytest.mark.compiler
def test_kernels_are_timed_against_the_best():
    """With a clock that says a second each, on a card that does one byte and one operation a second."""

    def measure(call, flush):
        call()
        return 1.0

    sizes = SMALL._replace(T=16, C=24, V=32, P=100)
    best = {"bandwidth": 1.0, "float32": 1.0}
    found = gpu_times.kernel_times("cuda-sim", sizes, ("float32",), measure, best)
    assert [row["kernel"] for row in found["rows"]] == [case.name for case in CASES]
    assert all(row["floor"] == max(row["bytes"], row["flops"]) > 0 for row in found["rows"])


@pytest.mark.compiler
def test_a_report_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    parity = gpu_report.read_results(XML)
    monkeypatch.setattr(gpu_report, "parity", lambda device: parity)
    monkeypatch.setattr(gpu_report, "gradients", lambda device: {"problems": [], "errors": {"gelu fast float32": 2e-7}})
    losses = itertools.repeat([2.0, 1.0])
    run = {"problems": [], "losses": dict(zip(("cpu", "cuda-sim"), losses, strict=False)), "largest_error": 0.0}
    monkeypatch.setattr(gpu_report, "training", lambda device: run)
    assert gpu_report.main(["--device", "cuda-sim", "--out-dir", str(tmp_path)]) == 1
    text = (tmp_path / "gpu-report.md").read_text()
    assert "- parity: bad: error 0.5" in text and "| `gelu_forward` | 1.0e-07 |" in text
    assert json.loads((tmp_path / "gpu-report.json").read_text())["parity"] == parity
    assert "1 problems" in capsys.readouterr().out


@pytest.mark.no_gpu
def test_without_a_gpu_one_line_says_what_is_missing(tmp_path, capsys):
    assert gpu_report.main(["--out-dir", str(tmp_path)]) == 2
    assert "cuda-sim" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
