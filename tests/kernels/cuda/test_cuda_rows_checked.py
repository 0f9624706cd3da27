"""The row-wise kernels under the checker: no fault on ragged shapes, the same bits in any order, few bytes moved."""

import shutil

import numpy as np
import pytest
from cuda_parity import device, host, normal

from cudasim.module import SimError
from kernels import backend
from kernels.cuda import simulated
from kernels.cuda.launch import SOURCES

pytestmark = pytest.mark.compiler

FILES = (
    "layernorm/layernorm.cu", "gelu/gelu.cu", "embedding/embedding.cu", "dropout/dropout.cu", "cuda/column_sums.cu",
)  # fmt: skip
TYPES = {np.float32: "SCALAR_F32", np.float16: "SCALAR_F16"}


def calls(dtype, N, C, V):
    """{name: (kernel, its arguments on the device)}."""
    rng = np.random.default_rng(1)
    x, dout, other, table = (normal(rng, dtype, rows, C) for rows in (N, N, N, V))
    weight, bias = normal(rng, dtype, C), normal(rng, dtype, C)
    statistics = np.ones((2, N), np.float32)
    ids = rng.choice(V, N, p=_frequent_first(V))
    found = {
        "layernorm_forward": (x, weight, bias, 1e-5),
        "layernorm_backward": (dout, x, weight, *statistics, other),
        "gelu_forward": (x, "none"),
        "gelu_backward": (dout, x, "tanh"),
        "embedding_forward": (table, ids),
        "embedding_backward": (dout, ids, V),
        "dropout_forward": (x, 0.3, 1, 2, 3),
    }
    return {name: (getattr(backend("cuda"), name), device(list(args))) for name, args in found.items()}


def _frequent_first(V):
    p = 1.0 / np.arange(1, V + 1)
    return p / p.sum()


def bits(result):
    return [a.tobytes() for a in host(result)] if isinstance(result, tuple) else host(result).tobytes()


@pytest.fixture
def checked(monkeypatch):
    monkeypatch.setattr(simulated, "mode", "check")


NAMES = list(calls(np.float32, 1, 1, 1))
EVERY = pytest.mark.parametrize("name", NAMES)


@EVERY
@pytest.mark.parametrize("dtype", TYPES)
def test_no_fault_on_ragged_shapes(checked, name, dtype):
    for N, C, V in [(1, 1, 1), (35, 31, 3), (33, 129, 33), (131, 40, 2), (0, 5, 3)]:
        kernel, args = calls(dtype, N, C, V)[name]
        kernel(*args)


@EVERY
def test_the_order_of_threads_and_blocks_does_not_change_a_bit(monkeypatch, name):
    kernel, args = calls(np.float32, 300, 67, 5)[name]
    forward = bits(kernel(*args))
    for schedule in "reversed", "random":
        monkeypatch.setattr(simulated, "schedule", schedule)
        assert bits(kernel(*args)) == forward


#: name -> bytes moved over the least there are to move: every array read or written once
BYTES = {
    "layernorm_forward": 1.06, "layernorm_backward": 1.08, "gelu_forward": 1.0, "gelu_backward": 1.0,
    "embedding_forward": 1.01, "embedding_backward": 1.05, "dropout_forward": 1.0,
}  # fmt: skip


@EVERY
@pytest.mark.parametrize("dtype", TYPES)
def test_bytes_moved(checked, name, dtype):
    kernel, args = calls(dtype, 256, 768, 512)[name]
    modules = [simulated.load(SOURCES / file, {TYPES[dtype]: 1}, "check") for file in FILES]
    for each in modules:
        each.reset_counters()
    result = kernel(*args)
    rows = [row for each in modules for row in each.counters() if row.space == "global"]
    arrays = [a for a in (*args, *(result if isinstance(result, tuple) else [result])) if hasattr(a, "nbytes")]
    least = sum(a.nbytes for a in arrays)
    if name == "embedding_forward":  # of the table only the rows that are asked for
        least += result.nbytes - args[0].nbytes
    assert 1.0 <= sum(row.distinct for row in rows) / least <= BYTES[name]


@pytest.mark.parametrize(
    ("file", "name", "line", "without"),
    [
        ("rows.cuh", "layernorm_backward", "  __syncthreads();\n}\n", "}\n"),
        ("embedding.cu", "embedding_backward", "    __syncwarp();  // all have read", "    // all have read"),
        ("column_sums.cu", "layernorm_backward", "  __syncthreads();\n", ""),
        ("dropout.cu", "dropout_forward", "store(out, v, first + g, n, wide)", "store(out, v, first + g, n + 1, wide)"),
        ("gelu.cu", "gelu_forward", "aligned(out) && aligned(x)", "true"),
    ],
    ids=["barrier", "warp barrier", "barrier of column sums", "tail", "alignment"],
)
def test_a_seeded_fault_is_caught(checked, monkeypatch, tmp_path, file, name, line, without):
    """So the checker does look at these kernels."""
    for source in SOURCES.glob("*/*.cu*"):
        shutil.copy(source, tmp_path)
    text = (tmp_path / file).read_text()
    assert line in text
    (tmp_path / file).write_text(text.replace(line, without))
    load = simulated.load
    monkeypatch.setattr(simulated, "load", lambda path, *how: load(tmp_path / path.name, *how))
    kernel, args = calls(np.float32, 65, 131, 3)[name]
    if "aligned" in line:
        args[0] = device(np.ones(66, np.float32))[1:]
    with pytest.raises(SimError, match=file):
        kernel(*args)
