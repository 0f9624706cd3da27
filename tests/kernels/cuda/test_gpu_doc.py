"""docs/gpu.md: its worked example passes all that it shows; its table is that of benchmarks/cuda_kernel_table.py."""

import importlib.util
from pathlib import Path

import pytest

from cudagates import __main__ as gates
from cudagates import expectations

ROOT = Path(__file__).resolve().parents[3]

from benchmarks import cuda_kernel_table
from benchmarks.kernel_costs import CASES


@pytest.fixture
def silu():
    spec = importlib.util.spec_from_file_location("silu_example", ROOT / "docs" / "silu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.compiler
def test_example_is_proven(silu, capsys):
    silu.main([])
    assert "gradients agree with the numerical gradients" in capsys.readouterr().out


def test_example_is_quoted_as_it_stands():
    page = (ROOT / "docs" / "gpu.md").read_text()
    for file, fence in (("silu.py", "```python\n"), ("silu.cu", "```c\n")):
        text = (ROOT / "docs" / file).read_text()
        quoted = [part.split("```")[0] for part in page.split(fence)[1:]]
        assert quoted and all(part in text for part in quoted)


@pytest.mark.gpu_check
def test_example_passes_the_gates(capsys):
    assert gates.main([str(ROOT / "docs" / "silu.cu")]) == 0
    assert "silu.cu silu_backward float16" in capsys.readouterr().out


def test_gates_name_a_file_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as stop:
        gates.main(["no_such.cu"])
    assert stop.value.code == 2
    assert "no_such.cu" in capsys.readouterr().err


def test_table_has_every_kernel():
    lines = cuda_kernel_table.in_page()[2:]
    assert [tuple(line.split(" | ")[:2]) for line in lines] == [
        (f"| `{case.name}`", dtype) for case in CASES for dtype in cuda_kernel_table.DTYPES
    ]


@pytest.mark.compiler
@pytest.mark.parametrize("kernel", ["layernorm_forward", "dropout_forward", "fused_adamw_step"])
@pytest.mark.parametrize("dtype", cuda_kernel_table.DTYPES)
def test_table_is_up_to_date(kernel, dtype):
    case = next(case for case in CASES if case.name == kernel)
    assert cuda_kernel_table.row(case, dtype, expectations.read_budgets((13, 0))) in cuda_kernel_table.in_page()
