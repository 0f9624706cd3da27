"""Attention as a function and as a module: values and gradients are PyTorch's."""

import contextlib

import numpy as np
import pytest
from torch_peer import RNG, check_modules, compare, normal, product

import kernels
import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

LEADING = [(), (3,), (2, 3), (2, 2, 3)]


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("lead", LEADING, ids=str)
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_of_any_number_of_axes(lead, is_causal, kernel_set):
    with kernels.use(kernel_set):
        for T, S, D, E in ((4, 4, 3, 3), (4, 6, 3, 3), (5, 2, 3, 3), (4, 6, 3, 2)):
            for scale in (None, 0.3):
                arrays = normal(*lead, T, D), normal(*lead, S, D), normal(*lead, S, E)
                compare("scaled_dot_product_attention", *arrays, is_causal=is_causal, scale=scale)


MASKS = {
    "rows": (4, 6), "heads": (3, 4, 6), "batch": (2, 1, 4, 6), "keys": (2, 1, 1, 6), "full": (2, 3, 4, 6),
}  # fmt: skip


@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
def test_attention_with_masks_that_broadcast_and_their_gradients(shape):
    q, k, v = normal(2, 3, 4, 5), normal(2, 3, 6, 5), normal(2, 3, 6, 2)
    visible = RNG.random(shape) < 0.7
    compare("scaled_dot_product_attention", q, k, v, visible)
    compare("scaled_dot_product_attention", q, k, v, normal(*shape))
    compare("scaled_dot_product_attention", q, k, v, np.where(visible, normal(*shape), -np.inf))


def test_a_query_that_sees_no_key_gives_zeros_and_no_nan_in_any_gradient():
    visible = np.array([[True, False, True], [False, False, False]])
    arrays = normal(2, 4), normal(3, 4), normal(3, 4)
    compare("scaled_dot_product_attention", *arrays, visible)
    compare("scaled_dot_product_attention", *arrays, np.where(visible, 0.0, -np.inf))


def test_groups_of_heads_share_keys_and_values():
    for mask in (None, RNG.random((4, 6)) < 0.7):
        arrays = normal(2, 6, 4, 5), normal(2, 3, 6, 5), normal(2, 3, 6, 5)
        compare("scaled_dot_product_attention", *arrays, mask, enable_gqa=True)
    with pytest.raises(ValueError, match="6 heads of query cannot share 4 heads"):
        q, k = normal(6, 4, 5), normal(4, 6, 5)
        mg.F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


def test_attention_drops_weights_by_the_tape_and_keeps_their_mean():
    q = mg.tensor(np.zeros((1, 1, 400, 1)))
    v = mg.tensor(np.ones((1, 1, 400, 1)))
    for mask in (None, np.ones((400, 400), bool)):
        mg.random.seek(3)
        first, second = (mg.F.scaled_dot_product_attention(q, q, v, mask, dropout_p=0.25).data for _ in range(2))
        mg.random.seek(3)
        again = mg.F.scaled_dot_product_attention(q, q, v, mask, dropout_p=0.25).data
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, second) and abs(first.mean() - 1.0) < 0.01 and first.std() > 0.01
        assert not mg.F.scaled_dot_product_attention(q, q, v, mask, dropout_p=1.0).data.any()


BAD_ATTENTION = {
    "both masks": (lambda x: mg.F.scaled_dot_product_attention(x, x, x, np.ones((3, 3), bool), is_causal=True),
                   ValueError, "attn_mask or is_causal, not both"),
    "mask of integers": (lambda x: mg.F.scaled_dot_product_attention(x, x, x, np.ones((3, 3), int)), TypeError,
                         "attn_mask is int64, expected bool or float32"),
    "mask of doubles": (lambda x: mg.F.scaled_dot_product_attention(x, x, x, np.ones((3, 3))), TypeError, "is float64"),
    "dtypes": (lambda x: mg.F.scaled_dot_product_attention(x, x, x.data.astype(np.float64)), TypeError,
               "query is float32, value float64"),
    "dropout": (lambda x: mg.F.scaled_dot_product_attention(x, x, x, dropout_p=2), ValueError, "dropout_p is 2"),
    "size": (lambda x: mg.F.scaled_dot_product_attention(x, x[:, :2], x), ValueError, r"got \(3, 4\), \(3, 2\)"),
    "vector": (lambda x: mg.F.scaled_dot_product_attention(x[0], x, x), ValueError, "needs query"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ATTENTION)
def test_what_attention_cannot_do_is_said_in_one_line(name):
    call, error, message = BAD_ATTENTION[name]
    with pytest.raises(error, match=message) as caught:
        call(mg.tensor(np.ones((3, 4), np.float32)))
    assert "\n" not in str(caught.value)


BAD_ARRAYS = {
    "keys for one sequence": ({"key": (6, 8), "value": (6, 8)}, {}, "all of two axes or all of three"),
    "keys of another batch": ({"key": (6, 3, 8), "value": (6, 3, 8)}, {}, r"expected \(T, N, E\), \(S, N, kdim\)"),
    "fewer values than keys": ({"value": (5, 2, 8)}, {}, r"\(4, 2, 8\), \(6, 2, 8\), \(5, 2, 8\)"),
    "padding turned round": ({}, {"key_padding_mask": (6, 2)}, r"key_padding_mask .* \(6, 2\), expected \(2, 6\)"),
    "mask of the queries": ({}, {"attn_mask": (4, 4)}, r"expected \(4, 6\) or \(4, 4, 6\)"),
    "a mask for each sequence": ({}, {"attn_mask": (2, 4, 6)}, r"attn_mask has shape \(2, 4, 6\)"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "masks", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_would_attend_to_other_keys_are_refused(arrays, masks, message):
    """A padding mask of the wrong order once hid other keys, and keys without a batch were shared by all."""
    shapes = {"query": (4, 2, 8), "key": (6, 2, 8), "value": (6, 2, 8), **arrays}
    for library, T, call in ((torch.nn, torch, RuntimeError), (nn, mg, ValueError)):
        given = {name: T.ones(*shape) for name, shape in shapes.items()}
        given |= {name: T.zeros(*shape) > 0 for name, shape in masks.items()}
        with pytest.raises((call, AssertionError), match=message if T is mg else None) as caught:
            library.MultiheadAttention(8, 2)(**given)
        assert T is torch or "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", product(need_weights=[True, False], batch_first=[True, False], bias=[True, False]))
def test_multihead_attention(setting):
    need_weights, how = setting["need_weights"], {k: v for k, v in setting.items() if k != "need_weights"}
    T, S, N = 4, 6, 2

    def arrays(*shape):
        return normal(*shape) if how["batch_first"] else normal(shape[1], shape[0], *shape[2:])

    causal = ~np.tri(T, S, dtype=bool)
    hidden = np.array([[False] * 5 + [True], [False, True, False, False, False, True]])
    masks = [
        {}, {"attn_mask": causal}, {"attn_mask": normal(T, S)}, {"key_padding_mask": hidden},
        {"attn_mask": normal(N * 2, T, S)}, {"attn_mask": causal, "key_padding_mask": hidden},
        {"attn_mask": causal, "is_causal": True}, {"average_attn_weights": False},
    ]  # fmt: skip
    for sizes in ({}, {"kdim": 3, "vdim": 5}):
        ours, theirs = (
            library.MultiheadAttention(8, 2, **how, **sizes).double() for library in (nn, torch.nn)
        )  # fmt: skip
        k, v = sizes.get("kdim", 8), sizes.get("vdim", 8)
        for mask in masks:

            def call(module, *x, mask=mask):
                to = torch.tensor if isinstance(module, torch.nn.Module) else np.asarray
                given = {name: value if isinstance(value, bool) else to(value) for name, value in mask.items()}
                found = module(*x, need_weights=need_weights, **given)
                return found if need_weights else found[0]

            ours.zero_grad()
            theirs.zero_grad()
            check_modules(ours, theirs, arrays(N, T, 8), arrays(N, S, k), arrays(N, S, v), call=call)
        ours.zero_grad()
        theirs.zero_grad()
        alone = (normal(T, 8), normal(S, k), normal(S, v))
        check_modules(ours, theirs, *alone, call=lambda module, *x: module(*x, need_weights=need_weights)[0])
        assert (ours(*alone)[1].shape, ours(*alone, need_weights=False)[1]) == ((T, S), None)
