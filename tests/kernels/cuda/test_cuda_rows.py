"""Layernorm, GELU, their fused forms, embedding and dropout on a device against the reference."""

import numpy as np
import pytest
from cuda_parity import ON_DEVICE, STORAGE, check, device, host, misaligned, normal, wide

from kernels import backend
from kernels.dropout.cuda import dropout_backward, dropout_forward
from kernels.embedding.cuda import embedding_backward, embedding_forward
from kernels.gelu.cuda import gelu_backward, gelu_forward
from kernels.layernorm.cuda import layernorm_backward, layernorm_forward
from kernels.linear.cuda import linear_backward

reference = backend("reference")

pytestmark = ON_DEVICE

EVERY = pytest.mark.parametrize("dtype", STORAGE)
FORMS = pytest.mark.parametrize("approximate", ["none", "tanh"])
SIZES = [(1, 1), (2, 5), (33, 16), (7, 31), (3, 33), (17, 64), (35, 127), (2, 128), (65, 129), (5, 1031), (0, 7)]


def accum(dtype):
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def saved_statistics(x, weight, bias):
    """mean and rstd as forward would have saved them: exact ones, rounded."""
    _, mean, rstd = reference.layernorm_forward(*wide((x, weight, bias)), 1e-5)
    return mean.astype(accum(x.dtype)), rstd.astype(accum(x.dtype))


def check_layernorm(dtype, N, C, bias=True):
    rng = np.random.default_rng(N * C)
    x, dout, dresidual, weight, shift = (normal(rng, dtype, *s) for s in ((N, C), (N, C), (N, C), (C,), (C,)))
    shift = shift if bias else None
    check(layernorm_forward, x, weight, shift, 1e-5, accum=(1, 2))
    if C > 1:  # of one number nothing is left after the mean is gone
        saved = saved_statistics(x, weight, 0.0)
        check(layernorm_backward, dout, x, weight, *saved)
        check(layernorm_backward, dout, x, weight, *saved, dresidual)


@EVERY
def test_layernorm(dtype):
    for N, C in SIZES:
        check_layernorm(dtype, N, C, bias=N % 2 == 1)


@EVERY
def test_rows_of_several_groups_a_thread(dtype):
    """Past 512 groups of 16 bytes another compilation takes over."""
    group = 16 // dtype.itemsize
    check_layernorm(dtype, 3, 512 * group + 1)
    check_layernorm(dtype, 3, 514 * group)


def test_more_rows_than_partial_sums():
    """1024 blocks at most: of so many rows a block takes 33 of its own."""
    check_layernorm(np.dtype(np.float32), 1024 * 32 + 1, 3)


def test_layernorm_loses_no_variance_beside_a_large_mean():
    x = (4096 + np.random.default_rng(5).integers(-4, 5, (17, 64)) / 4).astype(np.float32)  # exact
    check(layernorm_forward, x, np.ones(64, np.float32), None, 1e-5, accum=(1, 2))


@EVERY
@FORMS
def test_gelu(dtype, approximate):
    rng = np.random.default_rng(6)
    for shape in [(1,), (31,), (3, 43), (2, 3, 5, 7), (2, 1027), (0, 4)]:
        x, dout = (dtype.type(3) * normal(rng, dtype, *shape) for _ in range(2))
        check(gelu_forward, x, approximate)
        check(gelu_backward, dout, x, approximate)


@EVERY
@FORMS
def test_gelu_far_out(dtype, approximate):
    """Far left it is 0 and far right it is x, without overflow on the way; near 0 every digit counts."""
    far = np.array([-1e4, -100, -50, -20, 20, 50, 100, 1e4]).astype(dtype)
    for x in far, np.linspace(-1e-2, 1e-2, 7).astype(dtype):
        check(gelu_forward, x, approximate)
        check(gelu_backward, np.ones_like(x), x, approximate)
    out = host(gelu_forward(device(far), approximate))
    assert not wide(out[:3]).any() and (out[-3:] == far[-3:]).all()
    lost = np.array([np.nan, np.inf]).astype(dtype)
    assert np.array_equal(wide(host(gelu_forward(device(lost), approximate))), [np.nan, np.inf], equal_nan=True)


@EVERY
def test_embedding(dtype):
    rng = np.random.default_rng(7)
    for shape, V, C in [
        ((1,), 1, 1),
        ((31,), 5, 63),
        ((3, 43), 13, 64),
        ((127,), 1009, 65),
        ((7,), 3, 129),
        ((0,), 3, 5),
    ]:
        ids = rng.integers(0, V, shape)
        check(embedding_forward, normal(rng, dtype, V, C), ids)
        check(embedding_backward, normal(rng, dtype, *shape, C), ids, V)


@EVERY
def test_embedding_gradient_of_frequent_ids(dtype):
    """Lists of 64 and of 65, which a block sums up; of thousands, from several chunks of tokens."""
    rng = np.random.default_rng(8)
    ids = np.concatenate([np.full(64, 2), np.full(65, 3), rng.choice([0, 4], 2200, p=[0.1, 0.9])])
    rng.shuffle(ids)
    check(embedding_backward, normal(rng, dtype, len(ids), 33), ids, 6)


def test_weight_gradients_go_into_the_array_that_is_given():
    """That of linear replaces what is there, that of embedding is added to it."""
    rng = np.random.default_rng(9)
    x, weight, dout, before = (device(normal(rng, np.float32, *shape)) for shape in ((31, 5), (7, 5), (31, 7), (7, 5)))
    ids, into = device(rng.integers(0, 7, 31)), before.copy()
    assert linear_backward(dout, x, weight, None, into)[1] is into
    assert np.array_equal(host(into), host(linear_backward(dout, x, weight, None)[1]))
    into = before.copy()
    assert embedding_backward(x, ids, 7, into) is into
    assert np.array_equal(host(into), host(before) + host(embedding_backward(x, ids, 7)))


def test_embedding_gradient_adds_up_in_the_order_of_the_ids():
    """1e8 swallows ones that come after it, one at a time; ones that come before it have grown to 64 together."""
    ids = np.zeros(64, np.int64)
    rows = np.ones((64, 1), np.float32)
    rows[-1] = 1e8
    assert host(embedding_backward(device(rows), device(ids), 1)).item() == np.float32(1e8) + 64
    assert host(embedding_backward(device(rows[::-1].copy()), device(ids), 1)).item() == np.float32(1e8)


def test_ids_of_any_integer_type():
    weight = normal(np.random.default_rng(9), np.dtype(np.float32), 5, 4)
    for kind in (np.int32, np.int64, np.uint16):
        check(embedding_forward, weight, np.array([[0, 4], [4, 1]], kind))


@EVERY
def test_dropout_keeps_the_elements_that_the_reference_keeps(dtype):
    rng = np.random.default_rng(10)
    for shape in [(1,), (31,), (3, 43), (5, 7, 11), (1, 8193), (0, 3)]:
        x = normal(rng, dtype, *shape)
        for p in (0.0, 0.3, 0.9):
            (out,) = check(dropout_forward, x, p, 5, 7, 11)
            expected = reference.dropout_forward(wide(x), p, 5, 7, 11)
            np.testing.assert_array_equal(out == 0, expected == 0)
            check(dropout_backward, x, p, 2**40 + 5, 2**33 + 7, 11)
            if dtype.itemsize > 2:  # the same bits, not the same numbers only
                assert out.tobytes() == reference.dropout_forward(x, p, 5, 7, 11).tobytes()


def test_dropout_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="dropout probability is 1"):
        dropout_forward(device(np.ones(4, np.float32)), 1.0, 1, 2, 3)


@EVERY
def test_arrays_that_begin_at_any_address(dtype):
    rng = np.random.default_rng(11)
    x, dout, weight, bias = (normal(rng, dtype, *s) for s in ((9, 40), (9, 40), (40,), (40,)))
    ids, statistics = device(rng.integers(0, 9, 9)), device(saved_statistics(x, weight, bias))
    calls = [
        (layernorm_forward, (x, weight, bias), (1e-5,)),
        (layernorm_backward, (dout, x, weight), statistics),
        (layernorm_backward, (dout, x, weight), (*statistics, device(dout))),
        (gelu_forward, (x,), ("tanh",)),
        (gelu_backward, (dout, x), ("tanh",)),
        (embedding_forward, (x,), (ids,)),
        (embedding_backward, (dout,), (ids, 9)),
        (dropout_forward, (x,), (0.3, 1, 2, 3)),
    ]
    for kernel, arrays, rest in calls:
        straight, shifted = host(kernel(*device(arrays), *rest)), host(kernel(*map(misaligned, arrays), *rest))
        for a, b in zip(straight, shifted, strict=True) if isinstance(straight, tuple) else [(straight, shifted)]:
            assert a.tobytes() == b.tobytes(), kernel.__name__


def test_views_with_gaps_are_copied():
    x = normal(np.random.default_rng(12), np.dtype(np.float32), 5, 8)
    view = device(x).swapaxes(0, 1)
    assert host(gelu_forward(view, "tanh")).tobytes() == host(gelu_forward(device(x.T.copy()), "tanh")).tobytes()
    assert host(dropout_forward(view, 0.5, 1, 2, 3)).tobytes() == reference.dropout_forward(x.T, 0.5, 1, 2, 3).tobytes()


def test_shapes_that_do_not_fit_are_refused():
    x, short, weight = (device(np.ones(s, np.float32)) for s in ((3, 8), (2, 8), (8,)))
    with pytest.raises(ValueError, match=r"layernorm_forward: weight is \(3, 8\), expected \(8,\)"):
        layernorm_forward(x, x, weight, 1e-5)
    with pytest.raises(ValueError, match=r"layernorm_backward: dout is \(2, 8\), expected \(3, 8\)"):
        layernorm_backward(short, x, weight, weight[:3], weight[:3])
    with pytest.raises(ValueError, match="dresidual is"):
        layernorm_backward(x, x, weight, weight[:3], weight[:3], short)
    with pytest.raises(ValueError, match="dout is"):
        gelu_backward(short, x, "tanh")
    with pytest.raises(ValueError, match="bias is"):
        layernorm_forward(x, weight, weight[:7], 1e-5)
    with pytest.raises(ValueError, match="dout is"):
        embedding_backward(x, device(np.zeros(2, np.int64)), 4)
    with pytest.raises(TypeError, match="no kernels for int64"):
        gelu_forward(device(np.arange(3)), "tanh")
