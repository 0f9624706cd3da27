"""NaN, infinities, zeros and ties: values and gradients are PyTorch's, at the places where nothing is smooth."""

import contextlib

import numpy as np
import pytest

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = [pytest.mark.pytorch, pytest.mark.filterwarnings("ignore::RuntimeWarning")]  # of NumPy, for NaN and inf

nan, inf = np.nan, np.inf
POINTS = [nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 6.0, 30.0, -30.0, 1e-40, -1e-40, 1e30, -1e30, 88.0]
PAIRS = np.array(np.meshgrid(*[[nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -2.5, 7.0]] * 2)).reshape(2, -1)
UNARY = ["abs", "neg", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "square",
         "sin", "cos", "tanh", "relu", "floor", "ceil", "round", "trunc", "sign"]  # fmt: skip
ACTIVATIONS = {
    "softplus": {}, "logsigmoid": {}, "elu": {}, "selu": {}, "leaky_relu": {}, "hardtanh": {}, "relu6": {},
    "softplus-beta": {"beta": 2.0, "threshold": 5.0}, "elu-alpha": {"alpha": 0.3},
    "leaky_relu-steep": {"negative_slope": 2.0}, "hardtanh-bounds": {"min_val": -2.5, "max_val": 0.5},
}  # fmt: skip
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder"]
CLIPS = {
    "both": (-1.0, 1.0), "low": (-1.0, None), "high": (None, 0.5), "nan-low": (nan, 1.0), "nan-high": (-1.0, nan),
    "exchanged": (2.0, 1.0), "ints": (-1, 1),
}  # fmt: skip


def same(ours, theirs, inputs, peers, rtol, atol):
    upstream = np.linspace(-2.0, 3.0, ours.size).reshape(ours.shape).astype(ours.dtype)
    ours.backward(upstream)
    theirs.backward(torch.tensor(upstream))
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol, strict=True)
    for x, peer in zip(inputs, peers, strict=True):
        np.testing.assert_allclose(x.grad, peer.grad.numpy(), rtol, atol, strict=True)


def check(fn, torch_fn, *arrays, rtol=1e-6, atol=1e-44):
    for dtype in (np.float32, np.float64):
        arrays = [np.asarray(a, dtype) for a in arrays]
        inputs = [mg.tensor(a, requires_grad=True) for a in arrays]
        peers = [torch.tensor(a, requires_grad=True) for a in arrays]
        same(fn(*inputs), torch_fn(*peers), inputs, peers, rtol, atol)


@pytest.mark.parametrize("op", UNARY)
def test_functions_at_special_values(op):
    lost = 1e-5 if op in ("expm1", "tanh") else 1e-44  # PyTorch's tails cancel in float32: out + 1, 1 - out * out
    check(
        getattr(mg, op),
        getattr(torch, op),
        [x for x in POINTS if op[-3:] not in ("sin", "cos") or not abs(x) > 100],
        atol=lost,
    )


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations_at_special_values(case):
    op, setting = case.split("-")[0], ACTIVATIONS[case]
    twin = getattr(torch.nn.functional, op)
    points = [x for x in POINTS if op[-3:] != "elu" or x == x]  # there PyTorch's vectorised and its scalar code differ
    check(lambda x: getattr(mg, op)(x, **setting), lambda x: twin(x, **setting), points)


@pytest.mark.parametrize("op", BINARY)
def test_pairs_at_special_values(op):
    check(getattr(mg, op), getattr(torch, op), *PAIRS)


@pytest.mark.parametrize("exponent", [0.0, 0, 1, 2, 3.0, 0.5, -1, -2, -0.5, 2.5, inf, nan])
def test_powers_of_a_number(exponent):
    # PyTorch computes these two as roots, and all others as NumPy does
    points = [x for x in POINTS if exponent not in (0.5, -0.5) or not np.signbit(x)]
    check(lambda x: x**exponent, lambda x: x**exponent, points)
    if np.isfinite(exponent) and exponent > 0:
        check(lambda x: float(exponent) ** x, lambda x: float(exponent) ** x, POINTS)


@pytest.mark.parametrize("case", CLIPS)
def test_clip_at_and_beyond_its_bounds(case):
    low, high = CLIPS[case]
    points = [nan, inf, -inf, *np.linspace(-3, 3, 13)]
    check(lambda x: x.clip(low, high), lambda x: x.clip(low, high), points)
    check(lambda x: mg.clamp(x, min=low, max=high), lambda x: torch.clamp(x, min=low, max=high), points)


def test_clip_with_tensors_as_bounds():
    x, low, high = np.array(np.meshgrid([nan, -2.0, -1.0, 0.0, 1.0, 2.0], [nan, -1.0, 1.5], [nan, -1.5, 1.0])).reshape(
        3, -1
    )
    check(mg.clip, torch.clip, x, low, high)
    check(lambda x, low: mg.clip(x, min=low), lambda x, low: torch.clip(x, min=low), x, low)
    check(lambda x, high: x.clamp(max=high), lambda x, high: x.clamp(max=high), x, high)


@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
def test_division_rounded_either_way(mode):
    check(lambda a, b: mg.div(a, b, rounding_mode=mode), lambda a, b: torch.div(a, b, rounding_mode=mode), *PAIRS)
    a, b = np.array(np.meshgrid([-7, -6, -1, 0, 1, 6, 7], [-7, -3, -2, 1, 2, 3])).reshape(2, -1)
    out, expected = mg.div(a, b, rounding_mode=mode), torch.div(*map(torch.tensor, (a, b)), rounding_mode=mode)
    np.testing.assert_allclose(out.data, expected.numpy(), rtol=1e-6, strict=True)


def test_integer_quotients_and_remainders():
    a, b = np.array(np.meshgrid([-7, -6, -1, 0, 1, 6, 7], [-7, -3, -2, 1, 2, 3])).reshape(2, -1)
    for op in ("floor_divide", "remainder"):
        np.testing.assert_array_equal(
            getattr(mg, op)(a, b).data, getattr(torch, op)(torch.tensor(a), torch.tensor(b)).numpy(), strict=True
        )
    x = mg.tensor(a)
    assert (x // 2).tolist() == (a // 2).tolist() and (20 % mg.tensor(b)).tolist() == (20 % b).tolist()
    assert (7 // mg.tensor([2.0])).tolist() == [3.0]
    for call in (lambda: x // 0, lambda: x % 0, lambda: mg.div(1, x, rounding_mode="trunc")):
        with pytest.raises(ZeroDivisionError, match=r"an integer is divided by 0; .* x.float\(\)"):
            call()
    with pytest.raises(ValueError, match='rounding_mode is \'ceil\'; expected None, "floor" or "trunc"'):
        mg.div(x, 2, rounding_mode="ceil")


@pytest.mark.parametrize("decimals", [0, 1, 2, -1, -2])
def test_rounding_to_decimals(decimals):
    x = np.array([0.05, 0.15, 1.005, 2.5, 3.5, -2.5, 1234.567, 15.0, 25.0])
    check(lambda t: t.round(decimals=decimals), lambda t: t.round(decimals=decimals), x)
    np.testing.assert_array_equal(mg.round(np.array([15, 25, -35]), -1).data, [20, 20, -40])


def test_alpha_scales_the_second_operand():
    check(lambda a, b: mg.add(a, b, alpha=2.5), lambda a, b: torch.add(a, b, alpha=2.5), [1.0, 2.0], [3.0, 0.5])
    check(lambda a, b: a.sub(b, alpha=-3), lambda a, b: a.sub(b, alpha=-3), [1.0, 2.0], [3.0, 0.5])
    assert mg.add([1, 2], [3, 4], alpha=2).tolist() == [7, 10]
    with pytest.raises(TypeError, match=r"alpha is 0.5; beside int64 it must be an integer"):
        mg.add([1, 2], [3, 4], alpha=0.5)


def test_bounds_and_bad_settings_of_clip_and_hardtanh():
    with pytest.raises(ValueError, match="clip needs min or max"):
        mg.clip([1.0])
    with pytest.raises(ValueError, match=r"min_val 1\.0 exceeds max_val 0\.0"):
        mg.hardtanh([1.0], 1.0, 0.0)
    for args in ((-1, 2), (0.5, None), (None, 1.5)):
        expected = torch.clamp(torch.tensor([-3, 0, 1, 7]), *args).numpy()
        np.testing.assert_array_equal(mg.clip(np.array([-3, 0, 1, 7]), *args).data, expected, strict=True)


#: functions whose derivative is 0 somewhere: no gradient passes there, however large it is
ZERO_SOMEWHERE = {
    **{op: (op, op) for op in ("abs", "relu", "floor", "sign")},
    **{
        op: (op, f"nn.functional.{op}") for op in ("leaky_relu", "hardtanh", "relu6", "elu", "selu", "celu", "softplus")
    },
}
INFINITE = [inf, -inf, nan, 2.0]


def check_upstream(fn, torch_fn, arrays, upstream):
    inputs = [mg.tensor(a, requires_grad=True) for a in arrays]
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    fn(*inputs).backward(upstream)
    torch_fn(*peers).backward(torch.tensor(upstream))
    for x, peer in zip(inputs, peers, strict=True):
        np.testing.assert_allclose(x.grad, peer.grad.numpy(), 1e-6, 1e-44, strict=True)


def attribute(module, path):
    for name in path.split("."):
        module = getattr(module, name)
    return module


@pytest.mark.parametrize("copies", [1, 40], ids=["few", "many"])  # many elements are computed another way
@pytest.mark.parametrize("case", ZERO_SOMEWHERE)
def test_an_infinite_gradient_makes_no_nan_where_the_derivative_is_zero(case, copies):
    ours, theirs = ZERO_SOMEWHERE[case]
    points = [x for x in POINTS if x == x or not case.endswith("elu")]
    x, upstream = np.array(np.meshgrid(points * copies, INFINITE)).reshape(2, -1)
    check_upstream(attribute(mg, ours), attribute(torch, theirs), [x], upstream)


@pytest.mark.parametrize("copies", [1, 40], ids=["few", "many"])
@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_an_infinite_gradient_goes_to_the_larger_of_two_alone(op, copies):
    points = [nan, inf, -inf, 0.0, 1.0, -2.5]
    a, b, upstream = np.array(np.meshgrid(points * copies, points, INFINITE)).reshape(3, -1)
    check_upstream(getattr(mg, op), getattr(torch, op), [a, b], upstream)


def test_an_infinite_gradient_passes_no_bound_and_no_zeroth_power():
    x, upstream = np.array(np.meshgrid(POINTS, INFINITE)).reshape(2, -1)
    for fn in (lambda x: x.clip(-1, 1), lambda x: x.clip(min=-1), lambda x: x.clip(max=0.5), lambda x: x**0):
        check_upstream(fn, fn, [x], upstream)
    for fn in (lambda m, x: m.where(x > 0, x, 0.0), lambda m, x: x.masked_fill(x > 0, 1.0)):
        check_upstream(lambda x, fn=fn: fn(mg, x), lambda x, fn=fn: fn(torch, x), [x], upstream)
    bounds = [nan, -1.0, 1.5]
    x, low, high, upstream = np.array(np.meshgrid([nan, -2.0, 0.0, 2.0], bounds, bounds, INFINITE)).reshape(4, -1)
    check_upstream(mg.clip, torch.clip, [x, low, high], upstream)
