"""Large and tiny numbers, and sums of very many: both kernel sets and the simulated device reach what float32 can hold.

An absolute tolerance beside ordinary inputs hides each of these.
"""

import numpy as np
import pytest

from kernels import backend
from kernels.arrays import on_host
from minigrad import runtime

SETS = pytest.mark.parametrize("kernels", ["reference", "cpu", pytest.param("cuda-sim", marks=[pytest.mark.compiler])])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
IGNORE = -100


def run(kernels, name, *args):
    """The kernel's outputs on the host."""
    place = runtime.asarray("cuda-sim" if kernels == "cuda-sim" else "cpu")
    placed = [place(a) if isinstance(a, np.ndarray) else a for a in args]
    results = getattr(backend("cuda" if kernels == "cuda-sim" else kernels), name)(*placed)
    return [on_host(r) for r in results] if isinstance(results, tuple) else on_host(results)


# --------------------------------------------------------------------------------------------- cross-entropy


def exact_cross_entropy(logits, targets):
    """(loss, dlogits), the mean over rows, in more digits than float64 has where the machine has them."""
    wide = logits.astype(np.longdouble)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    probs = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    rows = np.arange(len(logits))
    loss = -np.log(probs[rows, targets]).mean()
    probs[rows, targets] -= 1
    return loss, probs / len(logits)


def logits_and_targets(dtype, offset, spread):
    rng = np.random.default_rng(0)
    return (offset + spread * rng.standard_normal((16, 600))).astype(dtype), rng.integers(0, 600, 16)


@SETS
@DTYPES
@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (100, 5), (-1e4, 1), (1e4, 1), (0, 100)])
def test_a_common_offset_of_logits_does_not_spoil_the_gradient(kernels, dtype, offset, spread):
    logits, targets = logits_and_targets(dtype, offset, spread)
    loss, logsumexp, divisor = run(kernels, "softmax_cross_entropy_forward", logits, targets, IGNORE, "mean")
    exact_loss, exact = exact_cross_entropy(logits, targets)
    assert abs(loss - exact_loss) <= 4 * UNIT[dtype] * exact_loss
    args = np.ones((), dtype), logits, targets, logsumexp, divisor, IGNORE, False
    error = np.abs(run(kernels, "softmax_cross_entropy_backward", *args) - exact).max() * len(logits)
    assert error <= 16 * UNIT[dtype]  # of probabilities; PyTorch's is 5 to 9


@SETS
def test_gradients_of_very_unlikely_classes_are_subnormal_numbers_and_not_zero(kernels):
    """Probabilities of 1e-36 to 1e-45; float32 has steps of 1.4e-45 there."""
    logits = np.zeros((2, 600), np.float32)
    logits[:, 1:] = np.linspace(-103, -83, 599)
    targets = np.zeros(2, np.int64)
    _, logsumexp, divisor = run(kernels, "softmax_cross_entropy_forward", logits, targets, IGNORE, "sum")
    args = np.ones((), np.float32), logits, targets, logsumexp, divisor, IGNORE, False
    dlogits = run(kernels, "softmax_cross_entropy_backward", *args)
    exact = np.exp(logits[:, 1:].astype(np.float64))
    assert (np.abs(dlogits[:, 1:] - exact) <= 8 * UNIT[np.float32] * exact + 1.5e-45).all()


@SETS
@DTYPES
def test_a_common_offset_of_logits_does_not_spoil_the_gradient_of_the_fused_head(kernels, dtype):
    """Whole numbers in x and weight: the logits, up to 1e4 and a few, are exact."""
    rng = np.random.default_rng(1)
    x, weight = rng.integers(-2, 3, (16, 8)).astype(dtype), rng.integers(-1, 2, (40, 8)).astype(dtype)
    x[:, 0], weight[:, 0] = 100, 100
    targets = rng.integers(0, 40, 16)
    loss, dx, dweight = run(kernels, "linear_cross_entropy_forward", x, weight, targets, IGNORE, "mean", 1.0, True)
    exact_loss, dlogits = exact_cross_entropy(x @ weight.T, targets)
    assert abs(loss - exact_loss) <= 4 * UNIT[dtype] * exact_loss
    for grad, left, right in ((dx, dlogits, weight), (dweight, dlogits.T, x)):
        assert np.abs(grad - left @ right).max() <= 16 * UNIT[dtype] * (np.abs(left) @ np.abs(right)).max()


# ------------------------------------------------------------------------------------------ normalised rows


def exact_norm(x, weight, bias, eps, centre):
    wide = x.astype(np.longdouble)
    centred = wide - wide.mean(axis=-1, keepdims=True) * centre
    rstd = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.longdouble(eps))
    return centred * rstd * weight + bias, rstd[:, 0]


def exact_gradient(dout, x, weight, eps, centre):
    xhat, rstd = exact_norm(x, 1, 0, eps, centre)
    dxhat = dout.astype(np.longdouble) * weight
    mean = dxhat.mean(axis=-1, keepdims=True) * centre
    return (dxhat - mean - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) * rstd[:, None]


#: a size of the numbers, eps; right up to 1e38 in float32, and where eps is less than their squares
EXTREME = {
    np.float32: [(1e17, 1e-5), (1e19, 1e-5), (1e25, 1e-5), (3e37, 1e-5), (1e-18, 0.0), (1e-25, 0.0), (1e-25, 1e-5)],
    np.float64: [(1e152, 1e-5), (1e160, 1e-5), (1e307, 1e-5), (1e-150, 0.0), (1e-170, 0.0), (1e-170, 1e-5)],
}


@SETS
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize(
    ("dtype", "size", "eps"), [(dtype, *case) for dtype, cases in EXTREME.items() for case in cases]
)
def test_rows_of_very_large_or_very_small_numbers_are_normalised(kernels, norm, dtype, size, eps):
    rng = np.random.default_rng(2)
    x, dout = (size * rng.uniform(-1, 1, (4, 37))).astype(dtype), rng.standard_normal((4, 37)).astype(dtype)
    x[1] = rng.standard_normal(37)  # an ordinary row beside the others
    weight, bias = (rng.standard_normal(37).astype(dtype) for _ in range(2))
    centre = norm == "layernorm"
    args = (x, weight, bias, eps) if centre else (x, weight, eps)
    out, *statistics = run(kernels, f"{norm}_forward", *args)
    exact, rstd = exact_norm(x, weight, bias if centre else 0, eps, centre)
    assert np.abs(out - exact).max() <= 32 * UNIT[dtype] * np.abs(exact).max()
    np.testing.assert_allclose(statistics[-1], rstd.astype(dtype), rtol=16 * UNIT[dtype])
    dx = run(kernels, f"{norm}_backward", dout, x, weight, *statistics)[0]
    exact = exact_gradient(dout, x, weight, eps, centre)
    allowed = 64 * UNIT[dtype] * np.abs(exact).max(axis=-1, keepdims=True) + np.finfo(dtype).smallest_subnormal
    assert (np.abs(dx - exact) <= allowed).all()


@SETS
@DTYPES
def test_norms_of_rows_of_one_value_and_of_numbers_that_are_not_finite(kernels, dtype):
    x, weight = np.full((4, 5), 3.0, dtype), np.ones(5, dtype)
    x[1], x[2, 3], x[3, 3] = 0, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        out = run(kernels, "layernorm_forward", x, weight, None, 1e-5)[0]
        rms = run(kernels, "rmsnorm_forward", x, weight, 1e-5)[0]
    assert not out[:2].any() and np.isnan(out[2:]).all()
    assert np.allclose(rms[0], 1, atol=1e-5) and not rms[1].any() and np.isnan(rms[2:]).any(axis=1).all()


# ------------------------------------------------------------------------------------------------ one norm of all


@SETS
@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float32, s) for s in (1e-44, 1e-30, 1.0, 1e25, 3e38)] + [(np.float64, s) for s in (1e-300, 1.0, 1e200, 1e306)],
)
def test_the_norm_of_very_large_or_very_small_gradients(kernels, dtype, size):
    rng = np.random.default_rng(3)
    arrays = [(size * rng.uniform(0.1, 1, n)).astype(dtype) for n in (7, 40000)]
    exact = np.sqrt(sum((a.astype(np.longdouble) ** 2).sum() for a in arrays))
    assert norm(kernels, arrays) == pytest.approx(float(exact), rel=1e-14)


@SETS
def test_the_norm_of_zeros_and_of_numbers_that_are_not_finite(kernels):
    zeros = np.zeros(5)
    assert norm(kernels, [zeros]) == 0
    assert norm(kernels, [zeros, np.array([np.inf, 1e200])]) == np.inf
    assert np.isnan(norm(kernels, [np.array([1e200, np.nan])]))


def norm(kernels, arrays):
    place = runtime.asarray("cuda-sim" if kernels == "cuda-sim" else "cpu")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(backend("cuda" if kernels == "cuda-sim" else kernels).global_norm([place(a) for a in arrays]))


# -------------------------------------------------------------------------------------------- sums of many rows

MANY = 300_001


@pytest.mark.parametrize("kernels", ["reference", "cpu"])
@pytest.mark.parametrize("kind", ["equal", "positive", "normal"])
def test_sums_over_very_many_rows_do_not_lose_what_is_small_beside_them(kernels, kind):
    """One by one, a million equal float32 rows would be 1 % off."""
    rng = np.random.default_rng(4)
    dout = {
        "equal": np.full((MANY, 3), 0.1),
        "positive": rng.random((MANY, 3)),
        "normal": rng.standard_normal((MANY, 3)),
    }
    dout = dout[kind].astype(np.float32)
    x, weight = rng.standard_normal((MANY, 3)).astype(np.float32), np.ones(3, np.float32)
    assert_sums_are_close(run(kernels, "linear_backward", dout, None, None, weight)[2], dout)
    xhat, mean, rstd = run(kernels, "layernorm_forward", x, weight, None, 1e-5)
    _, dweight, dbias = run(kernels, "layernorm_backward", dout, x, weight, mean, rstd)
    assert_sums_are_close(dweight, dout * xhat)
    assert_sums_are_close(dbias, dout)
    xhat, rstd = run(kernels, "rmsnorm_forward", x, weight, 1e-5)
    assert_sums_are_close(run(kernels, "rmsnorm_backward", dout, x, weight, rstd)[1], dout * xhat)


@SETS
def test_the_gradient_of_an_embedding_that_is_used_very_often(kernels):
    ids = np.zeros(60_000 if kernels == "cuda-sim" else MANY, np.int64)
    ids[::1000] = 2
    dout = np.full((len(ids), 3), 0.1, np.float32)
    dweight = run(kernels, "embedding_backward", dout, ids, 4)
    for i in (0, 2):
        assert_sums_are_close(dweight[i], dout[ids == i])
    assert not dweight[[1, 3]].any()


def assert_sums_are_close(sums, rows):
    exact, size = rows.sum(axis=0, dtype=np.float64), np.abs(rows).sum(axis=0, dtype=np.float64)
    assert (np.abs(sums - exact) <= 2e-5 * np.maximum(np.abs(exact), size / 30)).all()
