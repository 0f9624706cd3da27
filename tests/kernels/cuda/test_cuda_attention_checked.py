"""Attention under the checker: no fault on ragged shapes, the same bits in any order, bytes as the tiling says."""

import shutil

import numpy as np
import pytest
from cuda_parity import device, host, normal

from cudasim.module import SimError
from kernels.attention import cuda as attention
from kernels.cuda import simulated
from kernels.cuda.launch import SOURCES, Strided, blocks

pytestmark = pytest.mark.compiler

SINGLE, DOUBLE, HALF = (np.dtype(t) for t in (np.float32, np.float64, np.float16))
SETTING = (0.125, True, 0.2, 5, 7, 11)
ON_EACH_PATH = [(SINGLE, 8), (HALF, 40), (HALF, 64)]  # ordinary cores, and tensor cores
OTHERS = [(SINGLE, 64), (DOUBLE, 40), (HALF, 32), (HALF, 80), (HALF, 128)]


@pytest.fixture
def checked(monkeypatch):
    monkeypatch.setattr(simulated, "mode", "check")


def arrays(dtype, T, S, D, heads=1):
    """dout, q, k, v."""
    rng = np.random.default_rng(T + S + D)
    return device([normal(rng, dtype, 1, heads, n, D) for n in (T, T, S, S)])


def both(dtype, T, S, D, setting=SETTING, heads=1):
    """out, logsumexp, dq, dk, dv."""
    dout, q, k, v = arrays(dtype, T, S, D, heads)
    saved = attention.attention_forward(q, k, v, *setting)
    return *saved, *attention.attention_backward(dout, q, k, v, *saved, *setting)


@pytest.mark.parametrize(
    ("dtype", "D"),
    [*ON_EACH_PATH, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)],
    ids=str,
)
def test_no_fault_on_ragged_shapes(checked, dtype, D):
    for T, S, causal in [(1, 1, True), (33, 67, False), (67, 33, True)]:
        both(dtype, T, S, D, (0.2, causal, 0.2, 5, 7, 11))


@pytest.mark.parametrize(("dtype", "D"), [(SINGLE, 40), (HALF, 64)], ids=str)
def test_the_order_of_threads_and_blocks_does_not_change_a_bit(monkeypatch, dtype, D):
    forward = [x.tobytes() for x in host(both(dtype, 129, 129, D))]
    for schedule in "reversed", "random":
        monkeypatch.setattr(simulated, "schedule", schedule)
        assert [x.tobytes() for x in host(both(dtype, 129, 129, D))] == forward


def counters(dtype, T, D, setting):
    """Traffic of a forward pass, {"global": rows, "shared": rows}."""
    _, q, k, v = arrays(dtype, T, T, D)
    variant = attention.choose(dtype, D, setting[0], 80, [Strided(x) for x in (q, k, v)])
    kernel = attention.Kernel(variant.file, "attention_forward" + variant.suffix, **dict(variant.defines))
    each = simulated.load(kernel.path, kernel.macros(dtype), "check")
    each.reset_counters()
    attention.attention_forward(q, k, v, *setting)
    rows = each.counters()
    return variant, {space: [row for row in rows if row.space == space] for space in ("global", "shared")}


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(("dtype", "D"), [(SINGLE, 64), (SINGLE, 32), (HALF, 64), (HALF, 128)], ids=str)
def test_bytes_moved_by_the_tiling(checked, dtype, D, causal):
    """A tile of queries reads each key and value it can see once; q, out and logsumexp are touched once."""
    T = 256
    variant, rows = counters(dtype, T, D, (0.125, causal, 0.0, 1, 2, 3))
    seen = sum(min(T, (i + 1) * variant.rows) if causal else T for i in range(blocks(T, variant.rows)))
    tiling = (2 * T + 2 * seen) * D * dtype.itemsize + 4 * T
    moved = sum(row.distinct for row in rows["global"])
    assert tiling <= moved <= 1.001 * tiling
    wide = [row for row in rows["global"] if row.bytes > 4 * T]
    assert all(row.bytes / row.lanes == 16 for row in wide)  # 128 bits at a time


@pytest.mark.parametrize("D", attention.MMA_HEADS)
def test_tensor_core_tiles_have_no_bank_conflicts(checked, D):
    _, rows = counters(HALF, 128, D, SETTING)
    assert sum(row.waves for row in rows["shared"]) == sum(row.least_waves for row in rows["shared"]) > 0


def test_bank_conflicts_of_ordinary_cores(checked):
    _, rows = counters(SINGLE, 128, 64, SETTING)
    assert sum(r.waves for r in rows["shared"]) <= 1.02 * sum(r.least_waves for r in rows["shared"])


FAULTS = [
    ("attention.cu", SINGLE, "barrier before keys", "__syncthreads();  // all threads have used the values", "//"),
    ("attention.cu", SINGLE, "barrier after keys", "__syncthreads();          // all threads have used the keys", "//"),
    ("attention.cu", SINGLE, "warp barrier", "__syncwarp();  // a row of them", "//"),
    ("attention.cu", SINGLE, "tail of a load", "if (whole && first + row < n && d < D)", "if (whole && d < D)"),
    ("attention.cu", SINGLE, "tail of a store", "if (first + row >= n) return;", "if (first + row > n) return;"),
    ("attention_mma.cu", HALF, "no wait", "cp_async_wait<0>();\n    __syncthreads();  // this", "__syncthreads();  //"),
    ("attention_mma.cu", HALF, "one wait too few", "  cp_async_wait<1>();\n", "  cp_async_wait<2>();\n"),
    ("attention_mma.cu", HALF, "barrier before store", "  __syncthreads();\n  store_rows(out", "  store_rows(out"),
    ("attention_mma.cu", HALF, "same stage twice", "tiles + (stage ^ 1) * 2 * BC", "tiles + stage * 2 * BC"),
    ("attention_mma.cuh", HALF, "warp barrier", "  __syncwarp();\n", ""),
    ("attention_mma.cuh", HALF, "tail of a store", "if (first + r < n) store", "if (first + r <= n) store"),
    ("attention_mma.cuh", HALF, "tail of a load", "bool valid = first + row < n;", "bool valid = true;"),
    ("attention_mma.cuh", HALF, "swizzle past the row", "% SWIZZLE)) * 8", "% 8)) * 8"),
]  # fmt: skip


QUICK = (0, 3, 5, 8, 9, 11)  # a barrier and a bound of each file, the waits for copies


@pytest.mark.parametrize(
    ("file", "dtype", "what", "line", "without"),
    [
        pytest.param(*fault, id=f"{fault[0]} {fault[2]}", marks=[] if i in QUICK else pytest.mark.slow)
        for i, fault in enumerate(FAULTS)
    ],
)
def test_a_seeded_fault_is_caught(checked, monkeypatch, tmp_path, file, dtype, what, line, without):
    for source in SOURCES.glob("*/*.cu*"):
        shutil.copy(source, tmp_path)
    text = (tmp_path / file).read_text()
    assert line in text
    (tmp_path / file).write_text(text.replace(line, without))
    load = simulated.load
    monkeypatch.setattr(simulated, "load", lambda path, *how: load(tmp_path / path.name, *how))
    with pytest.raises(SimError, match="attention"):
        both(dtype, 129, 129, 80)
