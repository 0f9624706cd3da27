"""NaN and infinity go through every fast kernel and come out: none is lost in a maximum, a clamp or a mask.

A compiler told that there is no NaN (nnan, ninf) deletes the code that these tests watch.
"""

import numpy as np
import pytest
from parity import ALL_KERNELS, IN_PLACE, arguments, assert_same_bits, outputs

from kernels import backend

cpu = backend("cpu")

SETTING = (0.25, True, 0.0, 1, 2, 3)  # scale, causal, p, seed, step, stream
#: kernels whose second argument gets the bad number: the gradient, or what the scalar dout is multiplied with
BAD_SECOND = ("softmax_cross_entropy_backward", "adamw_step", "fused_adamw_step", "linear_cross_entropy_backward")
POISON = pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])


@POISON
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL_KERNELS)
def test_a_bad_number_comes_out(name, dtype, value):
    args = arguments(name, np.random.default_rng(1), dtype)
    target = args[1] if name in BAD_SECOND else args[0]
    target = target[0] if isinstance(target, list) else target
    clean = outputs(getattr(cpu, name)(*args))[0]
    assert clean is None or np.isfinite(clean).all()
    target[..., 3:8] = value  # several: dropout may drop one
    with np.errstate(invalid="ignore"):  # inf - inf inside a matrix product
        out = outputs(getattr(cpu, name)(*args))[0]
    if name == "scale_and_check":
        assert clean == 1 and out == 0
    out = (args[0][0] if name == "scale_and_check" else args[0]) if name in IN_PLACE else out
    assert np.isnan(out).any() if np.isnan(value) else not np.isfinite(out).all()


@POISON
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("column", [0, 3, 511, 512, 1099])
@pytest.mark.parametrize("others", [0.0, -np.inf])
def test_cross_entropy_finds_it_wherever_it_stands(dtype, value, column, others):
    logits, targets = np.full((3, 1100), others, dtype), np.zeros(3, np.int64)
    logits[:, 0] = 0.0
    logits[1, column] = value
    loss, logsumexp, divisor = cpu.softmax_cross_entropy_forward(logits, targets, -100, "mean")
    assert np.isnan(loss) and np.isnan(logsumexp[:, 1]).tolist() == [False, True, False]
    rest = targets, logsumexp, divisor, -100, False
    dlogits = cpu.softmax_cross_entropy_backward(np.ones((), dtype), logits, *rest)
    assert np.isnan(dlogits[1]).all() and np.isfinite(dlogits[[0, 2]]).all()


@POISON
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_attention_shows_it_to_those_who_see_the_token_and_to_no_other(which, value):
    inputs = arguments("attention_forward", np.random.default_rng(2), np.float32)[:3]
    clean, _ = cpu.attention_forward(*inputs, *SETTING)
    inputs["qkv".index(which)][1, 0, 70, 3] = value
    out, _ = cpu.attention_forward(*inputs, *SETTING)
    bad = ~np.isfinite(out).all(axis=-1)  # (B, H, T)
    seen = slice(70, 71) if which == "q" else slice(70, None)
    if which == "k" and np.isinf(value):
        assert bad[1, 0, seen].any()  # a score of -inf hides the key, as it should
    else:
        assert bad[1, 0, seen].all()
    untouched = np.ones(bad.shape, bool)
    untouched[1, 0, slice(64, None) if which == "v" else seen] = False  # v: 0 * NaN is NaN inside the key's tile
    assert_same_bits(out[untouched], clean[untouched])


def test_attention_backward_shows_it():
    saved = arguments("attention_backward", np.random.default_rng(3), np.float32)
    saved[0][1, 0, 70, 3] = np.nan
    dq, dk, dv = cpu.attention_backward(*saved)
    assert np.isnan(dq[1, 0, 70]).all() and np.isnan(dk[1, 0, :71]).all() and np.isnan(dv[1, 0, :71, 3]).any()
    for grad in (dq, dk, dv):
        assert np.isfinite(grad[0]).all() and np.isfinite(grad[1, 1]).all()
