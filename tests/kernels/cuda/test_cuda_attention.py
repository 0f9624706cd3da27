"""Attention on a device: both sets of kernels against the reference in float64.

Float32 and float64 run on ordinary cores, float16 and bfloat16 on tensor cores where the head size allows it.
"""

import numpy as np
import pytest
from cuda_parity import ON_DEVICE, STORAGE, device, error, host, normal, note, wide

from kernels import backend
from kernels.attention import cuda as attention
from kernels.cuda.launch import Strided

reference = backend("reference")

pytestmark = ON_DEVICE

EVERY = pytest.mark.parametrize("dtype", STORAGE)
CAUSAL = pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
DROPOUT = pytest.mark.parametrize("p", [0.0, 0.2])
#: T, S, D
SIZES = [(1, 1, 32), (31, 33, 8), (33, 31, 32), (1, 65, 64), (65, 127, 128)]
OTHER_HEADS = [(65, 65, 40), (33, 129, 80), (129, 65, 96)]
#: largest error: for 16 bits about three roundings, of P or dscores, of what is stored, and of `out` that was saved
LIMITS = {"float32": 4e-6, "float64": 1e-14, "float16": 1.5e-3, "bfloat16": 1.2e-2}


def packed(x):
    """x (B, H, T, D) on the device as the first part of a (B, T, 3, H, D) array; the others are NaN."""
    B, H, T, D = x.shape
    whole = np.full((B, T, 3, H, D), np.nan, x.dtype)
    whole[:, :, 0] = x.transpose(0, 2, 1, 3)
    return device(whole)[:, :, 0].transpose(0, 2, 1, 3)


def inputs(dtype, T, S, D, B=1, H=2, seed=0):
    """dout, q, k, v on the host."""
    rng = np.random.default_rng(seed + T + S + D)
    return [normal(rng, dtype, B, H, n, D) for n in (T, T, S, S)]


def assert_close(name, actual, expected, dtype, cancelled=0.0):
    """cancelled: the size of the terms of a result that is 0 on paper."""
    expected = np.asarray(expected)
    size = max(np.abs(expected).max(), cancelled)
    found = error(actual, expected) * (np.abs(expected).max() or 1.0) / size
    note("attention_backward" if name[0] == "d" else "attention_forward", dtype, found)
    assert found <= LIMITS[dtype.name], f"{name} in {dtype}: error {found:.2g}, allowed {LIMITS[dtype.name]:.2g}"


def check_both(dtype, T, S, D, *setting):
    """Forward, then backward from what an exact forward pass would have saved, into parts of one array."""
    dout, q, k, v = inputs(dtype, T, S, D)
    on_device = [packed(x) for x in (dout, q, k, v)]
    out, logsumexp = attention.attention_forward(*on_device[1:], *setting)
    sums = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    assert (out.dtype, logsumexp.dtype, out.shape) == (dtype, sums, q.shape)
    assert out.transpose(0, 2, 1, 3).flags.c_contiguous  # merging heads is free
    exact = reference.attention_forward(*wide((q, k, v)), *setting)
    assert_close("out", host(out), exact[0], dtype)
    assert_close("logsumexp", host(logsumexp), exact[1], sums)
    saved = packed(exact[0].astype(dtype)), device(exact[1].astype(sums))
    into = [packed(x) for x in (q, k, v)]
    grads = attention.attention_backward(*on_device, *saved, *setting, into=into)
    expected = reference.attention_backward(*wide((dout, q, k, v)), *exact, *setting)
    one_key = S == 1 or (T == 1 and setting[1])  # then dq and dk are 0 on paper
    for name, grad, target, right in zip(("dq", "dk", "dv"), grads, into, expected, strict=True):
        assert grad is target
        assert_close(name, host(grad), right, dtype, cancelled=one_key and name != "dv")
    for before, after in zip((dout, q, k, v), on_device, strict=True):
        np.testing.assert_array_equal(host(after), before)  # also that nothing was written beside `into`


@EVERY
@CAUSAL
@DROPOUT
@pytest.mark.parametrize("sizes", [SIZES, pytest.param(OTHER_HEADS, marks=pytest.mark.slow)], ids=["", "other heads"])
def test_sizes(sizes, dtype, causal, p):
    for T, S, D in sizes:
        check_both(dtype, T, S, D, D**-0.5, causal, p, 5, 7, 11)


@EVERY
def test_several_tiles_and_gradients_in_arrays_of_their_own(dtype):
    setting = (0.125, True, 0.2, 5, 7, 11)
    check_both(dtype, 129, 129, 64, *setting)
    arrays = [packed(x) for x in inputs(dtype, 33, 33, 64)]
    saved = attention.attention_forward(*arrays[1:], *setting)
    into = [packed(host(x)) for x in arrays[1:]]
    attention.attention_backward(*arrays, *saved, *setting, into=into)
    own = attention.attention_backward(*arrays, *saved, *setting)
    for a, b in zip(own, into, strict=True):
        np.testing.assert_array_equal(host(a), host(b))


@EVERY
def test_tensor_cores_and_ordinary_cores_agree(dtype, monkeypatch):
    """16-bit types run on ordinary cores as well: below capability 8.0, and with other head sizes."""
    monkeypatch.setattr(attention, "capability", lambda like: 75)
    for causal in (True, False):
        check_both(dtype, 65, 33, 64, 0.125, causal, 0.2, 5, 7, 11)


@EVERY
def test_dropout_masks_are_the_reference_s_bit_for_bit(dtype):
    """With the identity as v the output is the dropped probabilities; as dout it makes dv their transpose."""
    n, setting = 64, (0.01, True, 0.3, 5, 7, 11)  # small scores: no probability vanishes by itself
    _, q, k, _ = inputs(dtype, n, n, n)
    identity = np.broadcast_to(np.eye(n, dtype=dtype), q.shape)
    expected, _ = reference.attention_forward(*wide((q, k, identity.copy())), *setting)
    q, k, identity = packed(q), packed(k), packed(identity)
    out, logsumexp = attention.attention_forward(q, k, identity, *setting)
    np.testing.assert_array_equal(host(out) == 0, expected == 0)
    assert 0.2 < (expected[..., -1, :] == 0).mean() < 0.4
    _, _, dv = attention.attention_backward(identity, q, k, identity, out, logsumexp, *setting)
    np.testing.assert_array_equal(host(dv).swapaxes(-1, -2) == 0, expected == 0)


@EVERY
@pytest.mark.parametrize("s", [1, 64, 65])
def test_nothing_reaches_back_from_a_later_token(dtype, s):
    """Neither a loud later token an output, nor an earlier loss the gradient of a later token: not by a bit."""
    setting = (0.125, True, 0.2, 1, 2, 3)
    dout, q, k, v = inputs(dtype, 66, 66, 32)
    dout[:, :, s:] = 0
    first = attention.attention_forward(packed(q), packed(k), packed(v), *setting)
    for grad in attention.attention_backward(*map(packed, (dout, q, k, v)), *first, *setting):
        assert (host(grad)[:, :, s:] == 0).all()
    for x in (q, k, v):
        x[:, :, s:] *= -100
    second = attention.attention_forward(packed(q), packed(k), packed(v), *setting)
    assert host(second[0])[:, :, :s].tobytes() == host(first[0])[:, :, :s].tobytes()
    assert host(second[1])[..., :s].tobytes() == host(first[1])[..., :s].tobytes()
    assert (host(second[0])[:, :, s:] != host(first[0])[:, :, s:]).any()


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16)], ids=str)
def test_scores_far_out_of_exp_s_range(dtype):
    """Scores of thousands: the maximum is taken off before exp."""
    rng = np.random.default_rng(3)
    q, k = (rng.integers(-20, 21, (1, 2, 65, 32)).astype(dtype) for _ in range(2))
    v = normal(rng, dtype, 1, 2, 65, 32)
    out, logsumexp = attention.attention_forward(*map(device, (q, k, v)), 1.0, True, 0.0, 1, 2, 3)
    exact = reference.attention_forward(*wide((q, k, v)), 1.0, True, 0.0, 1, 2, 3)
    assert exact[1].max() > 2000
    assert_close("out", host(out), exact[0], dtype)
    assert_close("logsumexp", host(logsumexp), exact[1], np.dtype(np.float32))


@EVERY
def test_nan_reaches_the_queries_that_see_it_and_no_other(dtype):
    _, q, k, v = inputs(dtype, 40, 40, 32)
    k[:, :, 7] = np.nan
    out, _ = attention.attention_forward(*map(device, (q, k, v)), 0.2, True, 0.0, 1, 2, 3)
    shown = np.isnan(host(out).astype(np.float32)).any(axis=-1)
    assert shown[:, :, 7:].all() and not shown[:, :, :7].any()


def test_no_queries_and_empty_batches():
    q, k = device(np.ones((1, 2, 0, 8), np.float32)), device(np.ones((1, 2, 3, 8), np.float32))
    setting = (1.0, False, 0.0, 1, 2, 3)
    out, logsumexp = attention.attention_forward(q, k, k, *setting)
    assert (out.shape, logsumexp.shape) == ((1, 2, 0, 8), (1, 2, 0))
    _, dk, dv = attention.attention_backward(q, q, k, k, out, logsumexp, *setting)
    assert not host(dk).any() and not host(dv).any()
    none = device(np.ones((0, 2, 3, 8), np.float32))
    assert attention.attention_forward(none, none, none, *setting)[0].shape == (0, 2, 3, 8)


# ------------------------------------------------------------------------------- which kernels, and what is refused


def test_tensor_cores_are_chosen_where_they_can_be_used():
    half, single = np.dtype(np.float16), np.dtype(np.float32)
    view = Strided(device(np.zeros((1, 1, 2, 64), half)))
    apart = Strided(device(np.zeros((1, 1, 2, 65), half))[..., :64])  # rows 130 bytes apart
    assert view.aligned(16) and not apart.aligned(16)

    def file(dtype=half, D=64, scale=0.1, arch=80, views=(view,)):
        return attention.choose(dtype, D, scale, arch, views).file

    assert {file(D=D) for D in attention.MMA_HEADS} == {file(arch=120)} == {"attention/attention_mma.cu"}
    others = [file(single), file(D=48), file(scale=-0.1), file(scale=0.0), file(arch=75), file(views=(view, apart))]
    assert set(others) == {"attention/attention.cu"}


def test_rows_that_are_not_aligned_and_axes_with_gaps():
    _, q, k, v = inputs(np.dtype(np.float16), 33, 33, 64)
    setting = (0.125, True, 0.2, 5, 7, 11)
    exact, _ = reference.attention_forward(*wide((q, k, v)), *setting)
    wider = [np.zeros((*x.shape[:-1], 65), x.dtype) for x in (q, k, v)]
    gaps = [np.zeros((*x.shape[:-1], 128), x.dtype) for x in (q, k, v)]
    for x, odd, gap in zip((q, k, v), wider, gaps, strict=True):
        odd[..., 1:], gap[..., ::2] = x, x
    for views in [device(x)[..., 1:] for x in wider], [device(x)[..., ::2] for x in gaps]:
        assert_close("out", host(attention.attention_forward(*views, *setting)[0]), exact, np.dtype(np.float16))


def test_what_is_refused_says_why():
    def ones(*shape, dtype=np.float32):
        return device(np.ones(shape, dtype))

    setting = (1.0, True, 0.0, 1, 2, 3)
    q = ones(1, 2, 4, 8)
    wide_heads = ones(1, 1, 2, 129)
    with pytest.raises(ValueError, match="head sizes 1 to 128, not 129"):
        attention.attention_forward(wide_heads, wide_heads, wide_heads, *setting)
    with pytest.raises(ValueError, match="no keys"):
        attention.attention_forward(q, q[:, :, :0], q[:, :, :0], *setting)
    with pytest.raises(ValueError, match="v has shape"):
        attention.attention_forward(q, q, q[:, :, 1:], *setting)
    with pytest.raises(TypeError, match="v is float64"):
        attention.attention_forward(q, q, ones(1, 2, 4, 8, dtype=np.float64), *setting)
    saved = q, ones(1, 2, 4)
    with pytest.raises(ValueError, match="logsumexp has shape"):
        attention.attention_backward(q, q, q, q, q, ones(1, 2, 3), *setting)
    with pytest.raises(ValueError, match="dk has shape"):
        attention.attention_backward(q, q, q, q, *saved, *setting, into=(q, q[:, :, 1:], q))
    gaps = ones(1, 2, 4, 16)[..., ::2]
    with pytest.raises(ValueError, match="has stride 2, expected 1"):
        attention.attention_backward(q, q, q, q, *saved, *setting, into=(q, gaps, q))


def test_memory_grows_linearly_up_to_4096_tokens(monkeypatch):
    """Every array that is made, counted; the kernels themselves need not run for that."""
    monkeypatch.setattr(attention.Kernel, "launch", lambda *args, **more: None)
    made = []
    empty = attention.empty
    monkeypatch.setattr(attention, "empty", lambda *args: made.append(empty(*args)) or made[-1])

    def total(T):
        made.clear()
        x = device(np.zeros((1, 2, T, 32), np.float32))
        setting = (0.2, True, 0.2, 1, 2, 3)
        attention.attention_backward(x, x, x, x, *attention.attention_forward(x, x, x, *setting), *setting)
        return sum(array.nbytes for array in made)

    assert total(4096) == 64 * total(64) == 2 * 4096 * (4 * 32 + 2) * 4  # out, dq, dk, dv; logsumexp, delta
