"""AdamW over an arena, loss scaling and casts: the compiled kernels against the reference, 16-bit arrays included."""

import copy

import ml_dtypes
import numpy as np
import pytest
from parity import assert_same_bits, check_in_place, normal, relative_error, widened

from kernels import backend
from kernels.cast.cpu import from_bfloat16_bits, to_bfloat16_bits

cpu, reference = backend("cpu"), backend("reference")

HALVES = pytest.mark.parametrize(
    "half",
    [
        pytest.param(np.dtype(np.float16), id="float16"),
        pytest.param(np.dtype(ml_dtypes.bfloat16), id="bfloat16"),
    ],
)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BACKENDS = pytest.mark.parametrize("backend", [reference, cpu])
SETTING = (0.2, 0.9, 0.95, 1e-2)  # learning rate, betas, eps


def arena(rng, n, dtype=np.float32, grad_dtype=None, low_dtype=None):
    """Arguments of fused_adamw_step up to `decays`; one of four segments is empty."""
    param, grad, m = (normal(rng, dtype, n) for _ in range(3))
    v = (grad * grad + 1e-4).astype(dtype)
    low = None if low_dtype is None else np.zeros(n, low_dtype)
    ends = np.array([n // 3, n // 3, (2 * n) // 3 + 1, n])
    return [param, grad.astype(grad_dtype or dtype), m, v, low, np.asarray(2), ends, np.array([0.1, 9, 0, 0.3], dtype)]


@DTYPES
@pytest.mark.parametrize("n", [1, 31, 33, 127, 16383, 16385, 40009])
def test_fused_adamw(dtype, n):
    rng = np.random.default_rng(1)
    for norm, max_norm in [(3.0, 2.0), (3.0, 0.0), (1.0, 2.0)]:
        check_in_place("fused_adamw_step", *arena(rng, n, dtype), *SETTING, np.asarray(norm), max_norm)


@DTYPES
@BACKENDS
def test_fused_adamw_is_adamw_segment_by_segment(dtype, backend):
    """Clipped by hand, and its step counted by hand."""
    args = arena(np.random.default_rng(2), 1000, dtype)
    alone = copy.deepcopy(args)
    for step in (3, 4):
        backend.fused_adamw_step(*args, *SETTING, np.asarray(8.0), 2.0)
        assert args[5] == step
        start = 0
        for end, decay in zip(alone[6], alone[7].tolist(), strict=True):
            parts = [alone[i][start:end] for i in range(4)]
            reference.adamw_step(*parts, step, *SETTING, decay, 2.0 / (8.0 + 1e-6))
            start = end
    for i in (0, 2, 3):
        assert relative_error(args[i], alone[i]) <= (4e-7 if dtype == np.float32 else 1e-15)


@HALVES
def test_fused_adamw_of_16_bit_gradients_and_copies(half):
    rng = np.random.default_rng(3)
    for n in (1, 33, 16385):
        for args in (arena(rng, n, np.float32, half, half), arena(rng, n, np.float64, None, half)):
            exact = [*args[:1], args[1].astype(args[0].dtype), *args[2:4], None, *args[5:]]
            low, exact = args[4], copy.deepcopy(exact)
            cpu.fused_adamw_step(*args, *SETTING, np.asarray(3.0), 2.0)
            cpu.fused_adamw_step(*exact, *SETTING, np.asarray(3.0), 2.0)
            assert_same_bits([args[0], *args[2:4]], [exact[0], *exact[2:4]])  # a gradient of 16 bits is only widened
            assert low.tobytes() == reference.cast(args[0], half).tobytes()


@BACKENDS
@pytest.mark.parametrize("norm", [np.nan, np.inf, -np.inf])
def test_fused_adamw_changes_nothing_when_the_norm_is_not_finite(backend, norm):
    args = arena(np.random.default_rng(4), 100, low_dtype=np.float16)
    before = copy.deepcopy(args)
    backend.fused_adamw_step(*args, *SETTING, np.asarray(norm), 1.0)
    assert_same_bits(args, before)


@DTYPES
def test_scale_and_check(dtype):
    rng = np.random.default_rng(5)
    for sizes in [(1,), (31, 127, 0), (16383, 16385, 1), (40009,)]:
        check_in_place("scale_and_check", [normal(rng, dtype, n) for n in sizes], 0.3)


@BACKENDS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scale_and_check_finds_a_bad_number_and_scales_all_the_same(backend, bad):
    for dtype in (np.float16, np.float32, np.float64):
        for place in (0, 16384, 16999):
            arrays = [np.full(3, 2.0, dtype), np.full(17000, 2.0, dtype), np.full(3, 2.0, dtype)]
            assert backend.scale_and_check(arrays, 0.5) == 1
            arrays[1][place] = bad
            flag = backend.scale_and_check(arrays, 2.0)
            assert (flag.dtype, flag.shape, int(flag)) == (np.uint8, (), 0)
            assert (np.delete(arrays[1], place) == 2).all() and not np.isfinite(arrays[1][place])
            assert (arrays[0] == 2).all() and (arrays[2] == 2).all()


@HALVES
def test_scale_of_16_bit_arrays_is_rounded_once(half):
    """The scale itself, 2**-30, is 0 in float16."""
    x = np.array([2.0**15, -3.0, 65504.0]).astype(half)
    for kernels in (reference, cpu):
        ours = x.copy()
        assert kernels.scale_and_check([ours], 2.0**-30) == 1
        assert ours.tobytes() == (widened(x.astype(np.float32)) * 2.0**-30).astype(np.float32).astype(half).tobytes()


def test_scale_of_a_view_with_gaps():
    x = np.ones((4, 6), np.float32)
    assert cpu.scale_and_check([x[:, ::2]], 3.0) == 1
    assert (x[:, ::2] == 3).all() and (x[:, 1::2] == 1).all()


@BACKENDS
@HALVES
def test_cast_rounds_ties_to_even_once(backend, half):
    """Every 16-bit number, the points halfway to the next, and what lies beside those by less than float32 shows."""
    bits = np.arange(0x10000, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        numbers = bits.view(half)[np.isfinite(bits.view(half))]
    exact = numbers.astype(np.float64)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(backend.cast(numbers, dtype), exact.astype(dtype))
    positive = np.sort(exact[exact >= 0])[1:]
    low, high = positive[:-1], positive[1:]
    halfway = (low + high) / 2
    even = np.where(low.astype(half).view(np.uint16) % 2 == 0, low, high)
    for x, expected in [(halfway, even), (halfway * (1 + 1e-12), high), (halfway * (1 - 1e-12), low)]:
        for sign in (1.0, -1.0):
            np.testing.assert_array_equal(backend.cast(sign * x, half).astype(np.float64), sign * expected)
    np.testing.assert_array_equal(backend.cast(halfway.astype(np.float32), half).astype(np.float64), even)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
    out = backend.cast(special, half).astype(np.float64)
    np.testing.assert_array_equal(out, special)
    assert np.signbit(out[-2:]).tolist() == [False, True]


@BACKENDS
def test_cast_of_shapes_layouts_and_other_types(backend):
    x = np.random.default_rng(6).standard_normal((33, 129))
    for target in (np.float16, np.float32):
        for view in (x, x.T, x[:, ::2], x[:0], np.asarray(1.5)):
            out = backend.cast(view, target)
            assert (out.dtype, out.shape) == (target, view.shape)
            np.testing.assert_array_equal(out, view.astype(target))
            np.testing.assert_array_equal(backend.cast(out, np.float64), out.astype(np.float64))
    assert backend.cast(x, np.float64) is x


def test_bfloat16_bits_are_those_of_the_cast():
    """Every pattern of the upper half, at a tie, just beside one and between: infinities, NaN, subnormal numbers."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    x = np.concatenate([upper + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).view(np.float32).reshape(6, -1)
    bits = to_bfloat16_bits(x)
    numbers = ~np.isnan(x)
    nearest = x.view(np.uint32).astype(np.uint64)
    nearest = (nearest + 0x7FFF + (nearest >> 16 & 1)) >> 16
    assert bits.dtype == np.uint16 and np.array_equal(bits[numbers], nearest[numbers])
    back = from_bfloat16_bits(bits)
    assert back.shape == x.shape and np.array_equal(np.isnan(back), np.isnan(x))
    assert np.array_equal(to_bfloat16_bits(back)[numbers], bits[numbers])
    assert to_bfloat16_bits(x[:, ::2].T).tobytes() == np.ascontiguousarray(bits[:, ::2].T).tobytes()


@HALVES
def test_cast_between_the_16_bit_types(half):
    x = np.random.default_rng(7).standard_normal(1021).astype(np.float16)
    there = cpu.cast(x, half)
    assert there.dtype == half and there.tobytes() == x.astype(np.float32).astype(half).tobytes()
    assert cpu.cast(there, np.float16).tobytes() == there.astype(np.float32).astype(np.float16).tobytes()
    with pytest.raises(TypeError, match="no kernels for int64; there are float16"):
        cpu.cast(x, np.int64)
