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
