"""The simulated device's own parts: rounding, warps, tensor-core tiles, traffic counters, wrong launches."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from cudasim import memory, module
from cudasim.source import CompileError

pytestmark = pytest.mark.compiler

SOURCE = Path(__file__).parent / "correct" / "device.cu"
HEADERS = Path(__file__).parents[2] / "kernels" / "cuda"  # wrappers of PTX instructions


def _device(values):
    array = memory.allocate(values.nbytes).view(values.dtype).reshape(values.shape)
    array[...] = values
    memory.mark_written(array.ctypes.data, array.nbytes)
    return array


def _new(shape, dtype):
    return memory.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)


def _load(mode="fast", storage="SCALAR_F16"):
    return module.load(SOURCE, {storage: 1}, mode, [HEADERS])


def _launch(compiled, name, *args, threads=32):
    packed = [ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else x for x in args]
    compiled.launch(name, (1, 1, 1), (threads, 1, 1), packed)


def _bfloat16_bits(x):
    """Round a float32 to the nearest, ties to even; x holds no NaN."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _hard_floats():
    """Random bits; the range of float16 and its subnormals; ties; infinities and overflow."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 60000, dtype=np.uint32)
    bits[:20000] = bits[:20000] & 0x807FFFFF | rng.integers(97, 146, 20000).astype(np.uint32) << 23
    bits[:20000:3] &= 0xFFFFF000
    bits[20000:30000:3] &= 0xFFFF8000
    x = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, np.inf, -np.inf, 65519, 65520, 2**-25, 3.4e38])])
    return x[~np.isnan(x)]


@pytest.mark.parametrize("storage", ["SCALAR_F16", "SCALAR_BF16"])
def test_conversions_round_to_nearest_even(storage):
    x = _hard_floats()
    out = _new(x.shape, np.uint16)
    _launch(_load(storage=storage), "convert", out, _device(x), ctypes.c_int32(x.size), threads=256)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).view(np.uint16) if storage == "SCALAR_F16" else _bfloat16_bits(x)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_tensor_core_tile(mode):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(16, 16)).astype(np.float16), rng.normal(size=(16, 8)).astype(np.float16)
    out = _new((16, 8), np.float32)
    _launch(_load(mode), "multiply", out, _device(a), _device(b))
    np.testing.assert_allclose(out, a.astype(np.float64) @ b.astype(np.float64), rtol=0, atol=3e-6)


def test_shuffles_and_votes():
    out = _new((6, 32), np.int32)
    _launch(_load(), "meet", out)
    lane = np.arange(32)
    place, first = lane % 8, lane // 8 * 8
    expected = [first + 3, np.where(place >= 2, lane - 2, lane), np.where(place < 6, lane + 2, lane), lane ^ 5]
    np.testing.assert_array_equal(out[:4], expected)
    assert set(out[4].view(np.uint32)) == {sum(1 << i for i in range(0, 32, 3))}
    assert set(out[5]) == {28}


def _traffic(kernel, mark, space, access, *args):
    """The counters of the line of this kernel that is marked."""
    compiled = _load("check")
    compiled.reset_counters()
    _launch(compiled, kernel, *args)
    text = SOURCE.read_text()
    start = text[: text.index(f"void {kernel}(")].count("\n")
    line = next(n for n, line in enumerate(text.splitlines(), 1) if n > start and mark in line.partition("//")[2])
    return next(row for row in compiled.counters() if (row.line, row.space, row.access) == (line, space, access))


# 32 words of 4 bytes lie in 4 sectors at best; 32 banks, so that a stride of 2 needs 2 waves, of 32 all of 32
@pytest.mark.parametrize(("stride", "sectors", "waves"), [(0, 1, 1), (1, 4, 1), (2, 8, 2), (8, 32, 8), (32, 32, 32)])
def test_sectors_and_bank_conflicts(stride, sectors, waves):
    args = _new(32, np.float32), _device(np.ones(1024, np.float32)), ctypes.c_int32(stride)
    row = _traffic("strided", "GLOBAL", "global", "read", *args)
    assert (row.bytes, row.sectors, row.least_sectors) == (128, sectors, 1 if stride == 0 else 4)
    row = _traffic("strided", "SHARED", "shared", "read", *args)
    assert (row.bytes, row.waves, row.least_waves) == (128, waves, 1)


def test_a_vector_is_one_access():
    args = _new(128, np.float32), _device(np.ones(128, np.float32))
    row = _traffic("vectors", "GLOBAL", "global", "read", *args)
    assert (row.accesses, row.bytes, row.sectors, row.least_sectors) == (1, 512, 16, 16)
    row = _traffic("vectors", "SHARED", "shared", "write", *args)
    assert (row.accesses, row.waves, row.least_waves) == (1, 4, 4)


def test_new_memory_is_nan_in_every_type():
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isnan(_new(3, dtype)).all()


def test_fast_mode_sees_a_write_past_the_end():
    x = _device(np.zeros(40, np.float32))
    with pytest.raises(module.SimError, match="written past an end of the array of 24 bytes"):
        _launch(_load(), "convert", _new(12, np.uint16), x, ctypes.c_int32(16))


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("missing", (), "no kernel missing"),
        ("meet", (), "takes 1 arguments, not 0"),
        ("meet", (ctypes.c_int32(1),), "argument 1 has 4 bytes, its parameter 8"),
    ],
)
def test_wrong_launches_are_refused(name, args, says):
    with pytest.raises(module.SimError, match=says):
        _launch(_load(), name, *args)


def test_compile_errors_name_the_line(tmp_path):
    (tmp_path / "more.h").write_text("#pragma once\n")
    source = tmp_path / "wrong.cu"
    source.write_text('#include "more.h"\nextern "C" __global__ void wrong(float* x) {\n  x[0] = y;\n}\n')
    with pytest.raises(CompileError, match=r"wrong\.cu:3:\d+: error: .*y"):
        module.load(source, {})


def test_libraries_share_their_stacks():
    """1024 stacks are 2048 mappings, and a process may have 65530: with stacks of their own, of 31 libraries."""
    _load()
    before = _mappings()
    for i in range(2):
        module.load(SOURCE, {"SCALAR_F32": 1, "UNUSED": i}, include=[HEADERS])
    assert _mappings() - before < 1000


def _mappings():
    return Path("/proc/self/maps").read_text().count("\n")
