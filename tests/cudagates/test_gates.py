"""cudagates: every kernel passes them, and each of them catches a bug put in on purpose."""

import re

import pytest

from cudagates import check, expectations
from cudagates.architectures import ARCHITECTURES, WARP, resident_warps
from cudagates.loops import in_loops
from cudagates.measure import Job, measure
from kernels.cuda import nvrtc
from kernels.spec import MachineCode
from kernels.system import cli

# ------------------------------------------------------------------------------------------ every kernel


@pytest.mark.slow
@pytest.mark.gpu_check
@pytest.mark.parametrize("path", expectations.sources(), ids=lambda path: path.name)
def test_gates_hold(path):
    assert expectations.BUDGETS.is_file(), "run: python -m cudagates --write"
    budgets = expectations.read_budgets(nvrtc.version())  # None for a newer NVRTC: then they are not checked
    lines = check.violations(measure(check.jobs(path), at_once=2), budgets)
    assert not lines, "\n".join(lines)


def test_the_table_names_what_there_is():
    """An expectation of a file or a kernel that was renamed would be a demand on nothing."""
    files = {path.name: path for path in expectations.sources()}
    assert files and set(expectations.TABLE) <= set(files)
    for name, source in expectations.TABLE.items():
        assert set(source.kernels) <= set(expectations.kernels(files[name])), name


# ------------------------------------------------------------------------------------------ seeded bugs

GOOD = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256) seeded(scalar* y, const scalar* x, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) store(y + i, load(x + i));
}
"""
# Which of the 64 numbers is wanted is known only when it runs: they cannot be in registers.
LOCAL_IN_LOOP = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256) seeded(scalar* y, const scalar* x, int n) {
  accum kept[64];
  for (int j = 0; j < 64; j++) kept[j] = to_accum(x[j * n + threadIdx.x]);
  accum sum = 0;
  for (int j = 0; j < n; j++) sum += kept[(int)to_accum(x[j]) & 63];
  vec v = load(x + threadIdx.x * VEC);
  v.at[0] = to_scalar(sum);
  store(y + threadIdx.x * VEC, v);
}
"""
# A block of 1024 threads leaves 64 registers to each, and 96 numbers are alive in the loop.
SPILLS = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(1024) seeded(scalar* y, const scalar* x, int n) {
  vec v[24];
#pragma unroll
  for (int j = 0; j < 24; j++) v[j] = load(x + (j * n + threadIdx.x) * 4);
  for (int step = 0; step < n; step++) {
#pragma unroll
    for (int j = 0; j < 96; j++)
      v[j / 4].at[j % 4] = v[j / 4].at[j % 4] * v[(j + 1) % 96 / 4].at[(j + 1) % 4] + v[(j + 8) % 96 / 4].at[j % 4];
  }
#pragma unroll
  for (int j = 0; j < 24; j++) store(y + (j * n + threadIdx.x) * 4, v[j]);
}
"""
# The same work as GOOD, a number at a time.
NARROW = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256) seeded(scalar* y, const scalar* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i];
}
"""
# Sixteen loads, all of them made before the first store.
MANY_REGISTERS = """#include "common.cuh"
extern "C" __global__ void __launch_bounds__(256) seeded(scalar* y, const scalar* x, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
  vec v[16];
#pragma unroll
  for (int j = 0; j < 16; j++) v[j] = load(x + i + j * n);
#pragma unroll
  for (int j = 0; j < 16; j++) store(y + i + j * n, v[j]);
}
"""
SHARED = GOOD.replace("  int i", "  __shared__ scalar far[12000];\n  far[threadIdx.x] = x[0];\n  int i").replace(
    "load(x + i)", "load(far + (i & 1023) * VEC)"
)
DOES_NOT_COMPILE = GOOD.replace("store(y + i", "stroe(y + i")
UNUSED = GOOD.replace("  int i", "  int never;\n  int i")  # a warning of the compiler's
SEEDED = {
    "local memory in a loop": (LOCAL_IN_LOOP, r"\d+ accesses to local memory inside of loops"),
    "spills in a loop": (SPILLS, r"\d+ accesses to local memory inside of loops"),
    "spills": (SPILLS, r"\d+ bytes spilled, budget 0"),
    "narrow loads": (NARROW, r"no 128-bit load from global memory"),
    "narrow stores": (NARROW, r"no 128-bit store to global memory"),
    "registers": (MANY_REGISTERS, r"\d+ registers, budget 16"),
    "fewer warps": (MANY_REGISTERS, r"\d+ warps on an SM, budget at least 64"),
    "shared memory": (SHARED, r"\d+ bytes of shared memory, budget 0"),
    "does not compile": (DOES_NOT_COMPILE, r'identifier "stroe" is undefined'),
    "warning": (UNUSED, r'variable "never" was declared but never referenced'),
}


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """gate(source, budgets): what the gates say of it as float32 on sm_80, and the measurements. Caches nothing."""
    nvrtc.headers()  # unpacked into the folder that stays
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(source, budgets):
        path = tmp_path / "seeded.cu"
        path.write_text(source)
        results = measure([Job(path, (("SCALAR_F32", 1),), 80)])
        return check.violations(results, budgets), results

    return run


@pytest.mark.gpu_check
@pytest.mark.parametrize("name", SEEDED)
def test_seeded_bug_is_caught(gate, name):
    _, results = gate(GOOD, {})
    budgets = check.measured_budgets(results)
    assert gate(GOOD, budgets)[0] == []
    source, says = SEEDED[name]
    lines, _ = gate(source, budgets)
    assert any(re.search(says, line) for line in lines), lines


@pytest.mark.gpu_check
def test_spill_outside_of_loops_needs_leave(gate):
    once = SPILLS.replace("for (int step = 0; step < n; step++)", "")
    _, results = gate(once, {})
    (found,) = results.values()
    measured = found["seeded"]
    assert measured.spills and not measured.local_in_loops
    assert any("local memory" in line for line in check.unmet_expectations(measured, MachineCode()))
    assert check.unmet_expectations(measured, MachineCode(local_outside_loops=True, why="a test")) == []


@pytest.mark.gpu_check
def test_missing_opcode_and_budget_are_said(gate):
    lines, results = gate(GOOD, {})
    write = f"{cli.command('cudagates')} --write"
    assert lines == [f"seeded.cu seeded float32: has no budget; run: {write} (sm_80)"]
    (found,) = results.values()
    assert check.unmet_expectations(found["seeded"], MachineCode(opcodes=("HMMA",))) == ["no HMMA instruction"]


# ------------------------------------------------------------------------------------------ the parts


def test_budgets_are_read_as_written(tmp_path):
    path = tmp_path / "budgets.json"
    assert expectations.read_budgets((13, 5), path) is None
    table = {"a.cu k float32": {"sm_80": [24, 0, 128, 64]}}
    expectations.write_budgets(table, (13, 5), path)
    expectations.write_budgets({"b.cu k float32": {}}, (14, 0), path)
    assert expectations.read_budgets((13, 9), path) == table
    assert expectations.read_budgets((14, 0), path) == {"b.cu k float32": {}}
    assert expectations.read_budgets((15, 0), path) is None


def test_budget_counts_registers_by_eight():
    budget = [25, 0, 0, 48]
    assert check.over_budget([32, 0, 0, 48], budget) == []
    assert check.over_budget([33, 0, 0, 48], budget) == ["33 registers, budget 32"]
    assert check.over_budget([32, 0, 0, 40], budget) == ["40 warps on an SM, budget at least 48"]
    assert check.over_budget([32, 0, 0, 0], [32, 0, 0, 0]) == ["a block does not fit on an SM"]


def test_resident_warps_by_each_limit():
    assert resident_warps(80, 32, 0, 256) == 64  # all there are
    assert resident_warps(80, 128, 0, 256) == 16  # registers
    assert resident_warps(80, 33, 0, 256) == 48  # 33 cost as many as 40
    assert resident_warps(80, 32, 48 * 1024, 256) == 24  # shared memory: 3 blocks
    assert resident_warps(75, 16, 0, 32) == 16  # blocks
    assert resident_warps(86, 32, 100 * 1024, 256) == 0  # more than a block may have


def test_instructions_in_loops():
    text = """
    .section .text.k
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDL R2, [R1] ;
        /*0020*/              @P0  BRA `(.L_x_0) ;
        /*0030*/                   STL [R1], R2 ;
        /*0040*/                   EXIT ;
.L_x_1:
        /*0050*/                   BRA `(.L_x_1);
"""
    instructions = nvrtc.parse_sass(text)["k"]
    assert [i.opcode for i in instructions] == ["MOV", "LDL", "BRA", "STL", "EXIT", "BRA"]
    assert set(in_loops(instructions)) == {1, 2}  # the last is padding that nothing reaches


@pytest.mark.gpu_check
def test_limits_of_architectures_are_nvidias():
    header = (nvrtc.headers() / "cccl/cuda/__device/arch_traits.h").read_text()
    for arch, limits in ARCHITECTURES.items():
        body = re.search(rf"arch_traits<arch_id::sm_{arch}>\(\) noexcept\n{{(.*?)\n}}", header, flags=re.S)[1]
        names = ("max_shared_memory_per_multiprocessor", "max_blocks_per_multiprocessor")
        shared, blocks = (re.search(rf"{name}\s*= ([\d* ]+);", body)[1] for name in names)
        threads = re.search(r"max_threads_per_multiprocessor\s*= (\d+);", body)[1]
        kilobytes, unit = map(int, shared.split("*"))
        assert (kilobytes * unit, int(blocks), int(threads)) == (limits.shared, limits.blocks, limits.warps * WARP), (
            arch
        )
