"""AdamW, the global norm, loss scaling and casts on a device against the reference."""

import numpy as np
import pytest
from cuda_parity import (
    HALF,
    LIMITS,
    ON_DEVICE,
    STORAGE,
    device,
    error,
    host,
    host_reads,
    misaligned,
    normal,
    note,
    wide,
)  # fmt: skip

from kernels import backend
from kernels.adamw.cuda import adamw_step, fused_adamw_step
from kernels.cast.cuda import cast
from kernels.cuda import simulated
from kernels.global_norm.cuda import global_norm
from kernels.scale_and_check.cuda import scale_and_check

reference = backend("reference")

pytestmark = ON_DEVICE

EVERY = pytest.mark.parametrize("dtype", STORAGE)
COUNTS = (1, 31, 33, 127, 129, 1021, 4096, 4099, 10007)  # a block of AdamW takes 4096 parameters
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def state(rng, dtype, n):
    """param, grad, m, v; gradients near eps here and there, so that eps counts."""
    param, grad, m = (normal(rng, dtype, n) for _ in range(3))
    grad[::3] *= dtype.type(1e-2)
    return param, grad, m, (wide(grad) ** 2 + 1e-3).astype(dtype)


@EVERY
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_adamw(dtype, step):
    rng = np.random.default_rng(1)
    for n in COUNTS:
        arrays = state(rng, dtype, n)
        setting = (step, 0.2, 0.9, 0.95, 1e-2, 0.1, 0.7)
        ours, expected = device(arrays), wide(arrays)
        assert adamw_step(*ours, *setting) is None
        reference.adamw_step(*expected, *setting)
        for actual, wanted in zip(host(ours), expected, strict=True):
            assert error(wide(actual), wanted, "adamw_step", dtype) <= LIMITS[dtype.name]
        assert host(ours[1]).tobytes() == arrays[1].tobytes()


def arena(rng, n, dtype=F32, grad_dtype=None, low_dtype=None):
    """Arguments of fused_adamw_step up to `decays`: four segments, one of them empty, with ends anywhere."""
    param, grad, m, v = state(rng, dtype, n)
    ends = np.array([n // 3, n // 3, (2 * n) // 3 + 1, n])
    low = None if low_dtype is None else np.zeros(n, low_dtype)
    decays = np.array([0.1, 9.0, 0.0, 0.3], dtype)
    return [param, grad.astype(grad_dtype or dtype), m, v, low, np.asarray(2), ends, decays]


def check_fused(args, norm=3.0, max_norm=2.0, place=device):
    """Two steps on the device and in float64; returns the arrays on the host."""
    ours, expected = [place(a) if getattr(a, "ndim", 0) else device(a) for a in args], wide(args)
    ours[6:] = device(args[6:])
    low, expected[4] = expected[4], None
    for _ in range(2):
        setting = (0.2, 0.9, 0.95, 1e-2)
        fused_adamw_step(*ours, *setting, device(np.asarray(norm)), max_norm)
        reference.fused_adamw_step(*expected, *setting, np.asarray(norm), max_norm)
    actual = host(ours)
    for i in (0, 2, 3, 5):
        found = error(actual[i], expected[i], "fused_adamw_step", args[1].dtype)
        assert found <= LIMITS[args[0].dtype.name], i
    if low is not None:  # exactly what a cast of the new parameters gives
        assert actual[4].tobytes() == reference.cast(actual[0], args[4].dtype).tobytes()
    assert actual[1].tobytes() == args[1].tobytes()
    return actual


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("place", [device, misaligned])
def test_fused_adamw(dtype, place):
    rng = np.random.default_rng(2)
    for n in COUNTS:
        for norm, max_norm in [(3.0, 2.0), (3.0, 0.0), (1.0, 2.0)]:
            check_fused(arena(rng, n, dtype), norm, max_norm, place)


@pytest.mark.parametrize("half", STORAGE[2:])
@pytest.mark.parametrize("place", [device, misaligned])
def test_fused_adamw_of_16_bit_gradients_and_copies(half, place):
    rng = np.random.default_rng(3)
    for n in COUNTS:
        check_fused(arena(rng, n, F32, half, half), place=place)
        check_fused(arena(rng, n, F32, F32, half), place=place)
        check_fused(arena(rng, n, F32, half, None), place=place)


def test_fused_adamw_decays_each_segment_by_its_own_rate():
    """Without gradient and moments only the decay is left."""
    n = 9001
    ends, decays = np.array([1, 4098, 4098, 8191, n]), np.array([0.5, 0.25, 9.0, 0.0, 0.75], F32)
    param, zeros = np.ones(n, F32), np.zeros(n, F32)
    ours = device([param, zeros, zeros, zeros, None, np.asarray(0), ends, decays])
    fused_adamw_step(*ours, 0.5, 0.9, 0.99, 1e-8, device(np.asarray(0.0)), 1.0)
    lengths = np.diff(ends, prepend=0)
    np.testing.assert_array_equal(host(ours[0]), np.repeat(np.float32(1) - np.float32(0.5) * decays, lengths))


@pytest.mark.parametrize("norm", [np.nan, np.inf, -np.inf])
def test_fused_adamw_changes_nothing_when_the_norm_is_not_finite(norm):
    args = arena(np.random.default_rng(4), 5000, F32, HALF, HALF)
    for step in (fused_adamw_step, reference.fused_adamw_step):
        ours = device(args)
        reads = host_reads()
        step(*ours, 0.2, 0.9, 0.95, 1e-2, device(np.asarray(norm)), 1.0)
        assert step is not fused_adamw_step or host_reads() == reads
        for before, after in zip(args, host(ours), strict=True):
            assert before.tobytes() == after.tobytes()


def test_fused_adamw_refuses_what_it_has_no_kernel_for():
    rng = np.random.default_rng(5)

    def step(args):
        fused_adamw_step(*device(args), 0.2, 0.9, 0.95, 1e-2, device(np.asarray(1.0)), 1.0)

    for wrong in (arena(rng, 9, F64, HALF), arena(rng, 9, F32, F64), arena(rng, 9, F32, F32, F32)):
        with pytest.raises(TypeError):
            step(wrong)
    short = arena(rng, 9)
    short[1] = short[1][:8]
    with pytest.raises(ValueError, match="differ in shape"):
        step(short)


@EVERY
def test_global_norm(dtype):
    rng = np.random.default_rng(6)
    for sizes in [(1,), (31, 127, 0), (16383, 16385, 1), (40009,), (0,)]:
        arrays = [normal(rng, dtype, n) for n in sizes]
        norm = global_norm(device(arrays))
        assert norm.shape == () and norm.dtype == np.float64
        assert error(host(norm), reference.global_norm(wide(arrays)), "global_norm", dtype) <= 2e-15
        shifted = global_norm([misaligned(a) for a in arrays])
        assert host(shifted) == host(norm)  # the order of the sum does not depend on where an array lies
    matrix = normal(rng, dtype, 33, 65)
    norm = global_norm([device(matrix), device(matrix).T, device(matrix)[:, ::2]])
    assert error(host(norm), reference.global_norm(wide([matrix, matrix, matrix[:, ::2]]))) <= 2e-15
    assert global_norm([]) == 0.0


def test_global_norm_of_mixed_dtypes_and_of_large_numbers():
    arrays = [np.full(4, 1e25, np.float32), np.ones(3, HALF), np.ones(3)]
    assert host(global_norm(device(arrays))) == pytest.approx(2e25, rel=1e-6)
    arrays[1][1] = np.inf
    assert host(global_norm(device(arrays))) == np.inf


@EVERY
@pytest.mark.parametrize("place", [device, misaligned])
def test_scale_and_check(dtype, place):
    rng = np.random.default_rng(7)
    for sizes in [(1,), (31, 33, 0), (8191, 8193), (20011,)]:
        arrays = [normal(rng, dtype, n) for n in sizes]
        for bad in (None, np.nan, np.inf, -np.inf):
            if bad is not None:
                arrays[-1 if sizes[-1] else 0][-1] = bad
            ours, expected = [place(a) for a in arrays], [a.copy() for a in arrays]
            flag = scale_and_check(ours, 2.0**-11)
            assert (flag.shape, flag.dtype, int(host(flag))) == ((), np.uint8, int(bad is None))
            assert reference.scale_and_check(expected, 2.0**-11) == host(flag)
            for actual, wanted in zip(host(ours), expected, strict=True):
                np.testing.assert_array_equal(wide(actual), wide(wanted))
                note("scale_and_check", dtype, 0.0)
    with pytest.raises(ValueError, match="C-contiguous"):
        scale_and_check([device(np.ones((3, 4), dtype)).T], 2.0)


@EVERY
@pytest.mark.parametrize("target", STORAGE)
@pytest.mark.parametrize("place", [device, misaligned])
def test_cast(dtype, target, place):
    rng = np.random.default_rng(8)
    for n in (1, 31, 33, 127, 1021, 2048, 2051):
        x = (normal(rng, F64, n) * 2.0 ** rng.integers(-14, 15, n)).astype(dtype)
        out = cast(place(x), target)
        assert out.dtype == target
        np.testing.assert_array_equal(wide(host(out)), wide(reference.cast(x, target)))
        note("cast", dtype, 0.0)


def test_cast_of_shapes_and_of_other_types():
    x = np.arange(12.0).reshape(3, 4)
    assert host(cast(device(x).T, np.float16)).tolist() == x.T.tolist()
    assert host(cast(device(np.asarray(1.5)), np.float32)) == 1.5
    assert cast(device(x[:0]), np.float32).shape == (0, 4)
    same = device(x)
    assert cast(same, np.float64) is same
    with pytest.raises(TypeError, match="no kernels for int64; there are float32"):
        cast(same, np.int64)


@pytest.mark.parametrize("half", STORAGE[2:])
def test_cast_rounds_ties_to_even_once(half):
    """Every 16-bit number, the points halfway to the next, and what lies beside those by less than float32 shows."""
    bits = np.arange(0x10000, dtype=np.uint16)
    numbers = bits.view(half)
    with np.errstate(invalid="ignore"):
        numbers = numbers[np.isfinite(numbers)]
    ours = host(cast(device(numbers), np.float64))
    np.testing.assert_array_equal(ours, wide(numbers))
    positive = np.sort(ours[ours >= 0])[1:]
    low, high = positive[:-1], positive[1:]
    halfway = (low + high) / 2
    even = np.where(low.astype(half).view(np.uint16) % 2 == 0, low, high)
    for x, expected in [(halfway, even), (halfway * (1 + 1e-12), high), (halfway * (1 - 1e-12), low)]:
        for sign in (1.0, -1.0):
            np.testing.assert_array_equal(wide(host(cast(device(sign * x), half))), sign * expected)
    np.testing.assert_array_equal(wide(host(cast(device(halfway.astype(F32)), half))), even)
    special = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0, -0.0])
    out = wide(host(cast(device(special), half)))
    np.testing.assert_array_equal(out, [np.nan, np.inf, -np.inf, np.inf, -np.inf, 0, 0])
    assert np.signbit(out[-2:]).tolist() == [False, True]


def everything():
    """Bits of all that this file's kernels give for one set of inputs."""
    rng = np.random.default_rng(9)
    args = device(arena(rng, 9001, F32, HALF, HALF))
    norm = global_norm([args[1], args[0]])
    fused_adamw_step(*args, 0.2, 0.9, 0.95, 1e-2, norm, 1.0)
    plain = device(list(state(rng, F32, 4099)))
    adamw_step(*plain, 3, 0.2, 0.9, 0.95, 1e-2, 0.1, 0.5)
    flag = scale_and_check([plain[0], args[1]], 0.5)
    return [*args, norm, *plain, flag, cast(plain[1], HALF), cast(args[1], F64)]


@pytest.mark.cuda_sim
@pytest.mark.parametrize("schedule", ["reversed", "random"])
def test_any_order_of_threads_gives_the_same_bits(schedule, monkeypatch):
    before = [a.tobytes() for a in host(everything())]
    monkeypatch.setattr(simulated, "schedule", schedule)
    assert [a.tobytes() for a in host(everything())] == before


@pytest.mark.cuda_sim
def test_the_host_waits_for_nothing():
    reads = host_reads()
    everything()
    assert host_reads() == reads
