"""Odd but legal arguments of layers, losses, pooling, shapes and indices: PyTorch's answer or one clear line."""

import contextlib

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # the tests that need it carry the marker
    import torch

F = mg.functional
RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape)


def same(ours, theirs, *arrays):
    """Values and gradients of a function of minigrad's tensors and of one of PyTorch's."""
    mine = [mg.tensor(a, requires_grad=True) for a in arrays]
    others = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = ours(*mine), theirs(*others)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, strict=True)
    upstream = normal(*out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for a, b in zip(mine, others, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12, atol=1e-15)


# ------------------------------------------------------------------------------------------------ layers


@pytest.mark.pytorch
@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("shapes", [((2, 0), (4, 0), (4,)), ((2, 3), (0, 3), (0,)), ((0, 3), (4, 3), (4,)),
                                    ((2, 3), (3,))])  # fmt: skip
def test_a_linear_layer_without_inputs_or_outputs_or_of_a_vector_works(shapes, kernel_set):
    with kernels.use(kernel_set):
        same(F.linear, torch.nn.functional.linear, *(normal(*shape) for shape in shapes))


@pytest.mark.pytorch
def test_normalising_and_attending_over_no_features_works():
    x = normal(2, 0)
    same(lambda t: F.layer_norm(t, 0), lambda t: torch.nn.functional.layer_norm(t, (0,)), x)
    same(lambda t: F.rms_norm(t, (0,)), lambda t: torch.nn.functional.rms_norm(t, (0,)), x)
    query, key, value = normal(2, 3, 0), normal(2, 4, 0), normal(2, 4, 5)
    attention = torch.nn.functional.scaled_dot_product_attention
    same(F.scaled_dot_product_attention, attention, query, key, value)


def test_normalising_a_single_number_is_refused_in_one_line():
    for call in (lambda: F.layernorm(1.0, [1.0]), lambda: F.rmsnorm(np.float32(1), [1.0])):
        with pytest.raises(ValueError, match=r"x is a single number, expected shape \(\.\.\., C\)"):
            call()


def test_a_mask_of_another_shape_does_not_enlarge_the_result_of_attention():
    x = mg.tensor(normal(3, 4, 5))
    with pytest.raises(
        ValueError, match=r"attn_mask has shape \(2, 3, 4, 4\); it must broadcast to that of the scores, \(3, 4, 4\)"
    ):
        F.scaled_dot_product_attention(x, x, x, attn_mask=np.ones((2, 3, 4, 4), bool))
    with pytest.raises(
        ValueError, match=r"attn_mask has shape \(3, 4, 4\); it must broadcast to that of the scores, \(1, 4, 4\)"
    ):
        F.scaled_dot_product_attention(x[:1], x[:1], x[:1], attn_mask=np.zeros((3, 4, 4)))


def test_dropout_of_everything_keeps_the_dtype_of_integers():
    assert F.dropout(np.arange(3), 1.0).dtype == np.int64
    assert F.dropout(np.ones(3, np.float32), 1.0).dtype == np.float32


# ------------------------------------------------------------------------------------------------ losses


def test_an_ignore_index_beside_probabilities_is_not_ignored_silently():
    with pytest.raises(ValueError, match="ignore_index is 2; probabilities have no index to ignore"):
        F.cross_entropy(normal(4, 3), np.full((4, 3), 1 / 3), ignore_index=2)


@pytest.mark.pytorch
def test_weights_of_classes_get_a_gradient_or_are_refused():
    logits, target, weight = normal(4, 3), RNG.dirichlet(np.ones(3), 4), RNG.random(3)
    same(F.cross_entropy, torch.nn.functional.cross_entropy, logits, target, weight)
    for function in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ValueError, match="weight has no gradient"):
            function(logits, [0, 1, 2, 0], mg.tensor(weight, requires_grad=True))


@pytest.mark.pytorch
def test_double_targets_of_float_logits_are_promoted_as_in_pytorch():
    logits, target = normal(4, 3).astype(np.float32), RNG.dirichlet(np.ones(3), 4)
    for name in ("cross_entropy", "binary_cross_entropy_with_logits"):
        ours = getattr(F, name)(mg.tensor(logits), target)
        theirs = getattr(torch.nn.functional, name)(torch.tensor(logits), torch.tensor(target))
        np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-6, strict=True)


def test_the_gradient_of_a_target_of_probability_0_is_nan_and_not_a_wrong_number():
    """target log target is infinitely steep there; before, the gradient lacked the logarithm."""
    target = mg.tensor([[0.0, 1.0]], requires_grad=True)
    log_probs = mg.tensor(np.log([[0.5, 0.5]]), requires_grad=True)
    loss = F.kl_div(log_probs, target, reduction="sum")
    with np.errstate(invalid="ignore"):
        loss.backward()
    np.testing.assert_allclose(loss.data, np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(log_probs.grad, [[0.0, -1.0]])
    assert np.isnan(target.grad[0, 0]) and np.isfinite(target.grad[0, 1])


def test_settings_of_losses_given_as_numpys_numbers_do_not_widen_float32():
    x = np.ones(3, np.float32)
    assert F.huber_loss(x, x * 3, delta=np.float64(0.5)).dtype == np.float32
    assert F.smooth_l1_loss(x, x * 3, beta=np.float64(0.5)).dtype == np.float32
    assert F.huber_loss(np.arange(3), np.arange(3) * 3).dtype == np.float32


def test_a_pos_weight_of_more_axes_does_not_enlarge_the_loss():
    with pytest.raises(ValueError, match=r"pos_weight makes \(2, 4, 3\) of \(4, 3\)"):
        F.binary_cross_entropy_with_logits(normal(4, 3), RNG.random((4, 3)), pos_weight=np.ones((2, 1, 1)))


# ------------------------------------------------------------------------------------------------ pooling


@pytest.mark.pytorch
def test_max_pool_of_minus_infinity_gives_the_gradient_to_an_element_and_not_to_the_padding():
    x = np.full((1, 2, 5, 5), -np.inf)
    x[0, 1, 2, 3] = 1.0
    same(lambda t: F.max_pool2d(t, 3, 2, 1), lambda t: torch.nn.functional.max_pool2d(t, 3, 2, 1), x)
    ours = F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True)[1].data
    theirs = torch.nn.functional.max_pool2d(torch.tensor(x), 3, 2, 1, ceil_mode=True, return_indices=True)[1]
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert ours.min() >= 0


@pytest.mark.pytorch
@pytest.mark.parametrize("ceil_mode", [True, False])
def test_max_pool_of_several_nans_gives_the_gradient_to_the_last_as_in_pytorch(ceil_mode):
    x = normal(2, 3, 6, 7)
    x[RNG.random(x.shape) < 0.3] = np.nan
    x[RNG.random(x.shape) < 0.1] = np.inf
    settings = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": ceil_mode}
    same(lambda t: F.max_pool2d(t, **settings), lambda t: torch.nn.functional.max_pool2d(t, **settings), x)


def test_an_empty_stride_is_the_kernel_size_and_a_boolean_is_no_padding():
    x = normal(1, 2, 6)
    np.testing.assert_array_equal(F.max_pool1d(x, 2, stride=[]).data, F.max_pool1d(x, 2).data)
    with pytest.raises(ValueError, match="padding is True; expected an int"):
        F.conv1d(x, normal(3, 2, 2), padding=True)
    with pytest.raises(ValueError, match="padding is 'full'; expected ints, 'same' or 'valid'"):
        F.conv1d(x, normal(3, 2, 2), padding="full")
    with pytest.raises(ValueError, match=r"stride is 2\.0; expected an int"):
        nn.MaxPool1d(2, stride=2.0)(mg.tensor(x))


# ------------------------------------------------------------------------------------------------ shapes, indices


def test_permute_takes_dims_and_axes():
    x = normal(2, 3, 4)
    for keyword in ("dims", "axes"):
        np.testing.assert_array_equal(F.permute(x, **{keyword: (2, 0, 1)}).data, x.transpose(2, 0, 1))
    with pytest.raises(TypeError, match="give dims or axes, not both"):
        F.permute(x, dims=(2, 0, 1), axes=(2, 0, 1))


ONE_LINE = {
    "a new axis of size -1": (lambda x: x.expand(-1, 2, 3), ValueError, "-1 in .* stands for a new axis"),
    "two sizes of -1": (lambda x: x[:0].unflatten(0, (-1, -1)), ValueError, "axis 0 has 0 elements"),
    "more cut off than there is": (lambda x: F.pad(x, pad=(-4, 2)), ValueError, "cut off more than"),
    "negative pad_width": (lambda x: F.pad(x, pad_width=((-1, 0), (0, 0))), ValueError, "widths cannot be negative"),
    "a value that reflect has no use for": (lambda x: F.pad(x, pad=(1, 1), mode="reflect", value=3.0), ValueError,
                                            "value is 3.0, which the mode 'reflect' does not use"),
    "infinity among integers": (lambda x: F.pad(x.long(), pad=(1, 1), value=-np.inf), TypeError, "int64 cannot hold"),
    "another output_size": (lambda x: F.repeat_interleave(x, 2, 0, output_size=5), ValueError, "but the counts make 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_LINE)
def test_what_pytorch_refuses_does_not_pass_silently(name):
    call, error, message = ONE_LINE[name]
    with pytest.raises(error, match=message):
        call(mg.tensor(normal(2, 3)))


def test_labels_in_uint8_are_not_taken_for_indices_where_pytorch_takes_a_mask():
    table, labels = mg.tensor(normal(3, 2)), np.array([1, 0, 1], np.uint8)
    with pytest.raises(TypeError, match=r"index != 0 .* index\.astype\(np\.int64\)"):
        _ = table[labels]
    np.testing.assert_array_equal(table[labels.astype(np.int64)].data, table.data[[1, 0, 1]])
    np.testing.assert_array_equal(F.embedding(labels, table).data, table.data[[1, 0, 1]])


@pytest.mark.pytorch
def test_gather_takes_one_element_of_a_vector():
    same(lambda t: F.gather(t, 0, np.array(2)), lambda t: torch.gather(t, 0, torch.tensor(2)), normal(5))


# ------------------------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_hides_no_infinite_or_nan_gradient(kernel_set, dtype):
    """A mask of zeros and 1 / (1 - p) is a factor, as in PyTorch: infinity times 0 is NaN."""
    x = mg.tensor(np.ones(100, dtype), requires_grad=True)
    with kernels.use(kernel_set):
        out = F.seeded_dropout(x, 0.5, 1, 2, 3)
        dout = np.ones(100, dtype)
        dout[::2], dout[1::4] = np.inf, np.nan
        with np.errstate(invalid="ignore"):
            out.backward(dout)
            factor = out.data
            np.testing.assert_array_equal(x.grad, dout * factor)
            assert np.isnan(F.seeded_dropout(np.full(100, -np.inf, dtype), 0.5, 1, 2, 3).data[factor == 0]).all()
    assert set(factor) == {0.0, 2.0}


# --------------------------------------------------------------------------------- reductions and activations


def test_an_axis_that_is_a_tensor_or_of_numpy_is_no_second_operand():
    x = mg.tensor([[-1.0, 2.0], [0.5, 3.0]])
    for dim in (np.int64(0), mg.tensor(0), np.array(0)):
        values, indices = x.max(dim=dim)
        assert values.tolist() == [0.5, 3.0] and indices.tolist() == [1, 1]
    assert x.max(mg.tensor(0.0)).tolist() == [[0.0, 2.0], [0.5, 3.0]]
    assert x.sum(axis=np.array([0, 1])).item() == 4.5


def test_the_norm_of_an_order_is_numpys():
    x = normal(3, 4, 2)
    for order in (1, -1, np.inf, -np.inf, "fro"):
        for axis, keepdims in [((0, 1), False), ((2, 0), True), ((-1, 1), False)]:
            expected = np.linalg.norm(x, order, axis, keepdims)
            np.testing.assert_allclose(F.norm(x, ord=order, axis=axis, keepdims=keepdims).data, expected, strict=True)
    np.testing.assert_allclose(F.norm(x[0, 0], ord=3).data, np.linalg.norm(x[0, 0], 3))
    mg.gradcheck(lambda t: F.norm(t, ord=1, axis=(0, 1)), [x])
    for order, dim in [(2, (0, 1)), ("nuc", (0, 1)), (1, None)]:
        with pytest.raises(ValueError, match=r"^norm: ord .*$"):
            F.norm(x, ord=order, dim=dim)
    with pytest.raises(TypeError, match="not both"):
        F.norm(x, 1, ord=1)


def test_over_no_axis_nothing_is_summed():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(F.logsumexp(x, axis=()).data, x.data, rtol=1e-6)
    np.testing.assert_array_equal(F.norm(x, axis=()).data, x.data)


@pytest.mark.parametrize("dim", [1.0, "a", True, [0, "a"]])
def test_an_axis_that_is_no_int_is_named(dim):
    with pytest.raises(TypeError, match=r"^dim is .*; expected an int, a tuple of ints or None$"):
        mg.tensor([[1.0, 2.0]]).sum(dim=dim)


def test_the_extremum_of_no_elements_says_its_shape():
    with pytest.raises(ValueError, match=r"^amax: \(0, 2\) is empty over axes \(0,\)"):
        mg.amax(np.zeros((0, 2)), 0)
    assert mg.amin(np.zeros((0, 2)), 1).shape == (0,)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", ["relu", "silu", "elu", "selu", "celu", "leaky_relu", "hardtanh", "relu6"])
def test_an_activation_takes_inplace_by_position_as_pytorch_does(name):
    settings = {"elu": [1.0], "celu": [1.0], "leaky_relu": [0.1], "hardtanh": [-1.0, 1.0]}.get(name, [])
    x = normal(5)
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), *settings, False)
    np.testing.assert_allclose(getattr(F, name)(x, *settings, False).data, expected.numpy(), rtol=1e-12)
    with pytest.raises(TypeError, match=rf"^{name}: inplace=True is not supported; say x = "):
        getattr(F, name)(x, *settings, True)


def test_a_comparison_with_numpys_float64_is_made_in_the_dtype_of_the_tensor():
    assert (mg.tensor([0.1]) == np.float64(0.1)).all()
    assert not (mg.tensor([0.7]) < np.float64(0.7)).any()
    assert np.float64(0.1) in mg.tensor([0.1])
    assert not (mg.tensor([1], dtype=np.uint8) == np.int64(257)).any()


# --------------------------------------------------------------------------------------- products and shapes

A = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("call, message", [
    (lambda: mg.tensor(A) @ A, r"matmul: \(2, 3\) and \(2, 3\) do not fit; the last axis .*, 3, .* second, 2"),
    (lambda: mg.tensor(A) @ np.ones((4, 5, 2)), r"matmul: .* 3, must be as long as the last but one axis .*, 5"),
    (lambda: mg.tensor(np.ones((2, 1, 3))) @ np.ones((4, 3, 1)), "leading axes must broadcast"),
    (lambda: mg.tensor(2.0) @ A, r"say x \* y"),
    (lambda: mg.dot(A[0], A[:, 0]), r"dot: \(3,\) and \(2,\)"), (lambda: mg.mm(A, A), r"mm: \(2, 3\) and \(2, 3\)"),
    (lambda: mg.mv(A, A[:, 0]), r"mv: \(2, 3\) and \(2,\)"), (lambda: mg.vdot(A, A[0]), r"vdot: \(6,\) and \(3,\)"),
    (lambda: mg.inner(A, A.T), "inner: .*last axes"), (lambda: mg.bmm(A, A.T), "bmm takes tensors of 3 and 3 axes"),
    (lambda: mg.bmm(A[None], A[None]), r"bmm: \(1, 2, 3\) and \(1, 2, 3\) do not fit"),
    (lambda: mg.einsum("ij,jk->ik", A, A), r"einsum: in 'ij,jk->ik' 'j' is 3 in \(2, 3\), but 2 in \(2, 3\)"),
    (lambda: mg.einsum("...i,...i->...", A, A[:1].repeat(3, 0)), r"an axis of '...' is 2 in \(2, 3\), but 3 in"),
    (lambda: mg.permute(A, 0), r"the axes are \(0,\); of \(2, 3\) expected each of 0\.\.1 once"),
    (lambda: F.scaled_dot_product_attention(np.ones((1, 4, 5, 8)), np.ones((1, 3, 5, 8)), np.ones((1, 3, 5, 8))),
     r"leading axes of query \(1, 4, 5, 8\), key \(1, 3, 5, 8\).*enable_gqa=True"),
    (lambda: F.scaled_dot_product_attention(*[np.ones((1, 4, 5, 8))] * 3, attn_mask=np.ones((4, 5))),
     r"attn_mask has shape \(4, 5\); it must broadcast to that of the scores, \(1, 4, 5, 5\)"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_both_named(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("call, message", [
    (lambda x: -(x > 0), "say ~x"), (lambda x: (x > 0) - (x > 0), r"say x \^ y"),
    (lambda x: mg.cat(x, x), r"cat\(\[a, b\]\)"),
    (lambda x: mg.pad(x, pad=1), "pad is 1; expected a list"), (lambda x: mg.pad(x, pad_width={0: 1}), "is a dict"),
    (lambda x: mg.topk(x, 1.5), "k is 1.5; expected an int"),
    (lambda x: mg.split(x, 2.5, dim=0), "is 2.5; expected an int"),
    (lambda x: mg.repeat_interleave(x, 1.5), "float64; expected integers"),
    (lambda x: mg.roll(x, 1.5), "shifts is 1.5"),
    (lambda x: mg.tril(x, 0.5), "diagonal is 0.5"), (lambda x: x.round(decimals=1.5), "decimals is 1.5"),
    (lambda x: F.softmax(x, dim="a"), "softmax: dim is 'a'; expected an int"),
    (lambda x: F.one_hot(x, 3), "classes must be integers"),
])  # fmt: skip
def test_an_argument_of_another_type_is_named(call, message):
    with pytest.raises(TypeError, match=message) as raised:
        call(mg.tensor(A))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("function", [
    lambda x: x.flip(0), lambda x: x.flip(()), lambda x: x.roll(0), lambda x: x.roll(2, 0), lambda x: x.tile(1),
    lambda x: x.repeat(repeats=(1, 1)), lambda x: mg.pad(x, pad=(0, 0)), lambda x: mg.pad(x, pad=(-1, 0)),
    lambda x: x[:, :1].tile(1, 3), lambda x: mg.pad(x, pad_width=0), lambda x: x.long().round(),
])  # fmt: skip
def test_writing_into_a_result_leaves_the_input_as_it_was(function):
    x = mg.tensor(A)
    out = function(x)
    assert not np.may_share_memory(out.data, x.data) and out.data.flags.writeable
    ints = mg.tensor([1, 2])
    for name in ("round", "floor", "ceil", "trunc"):
        result = getattr(ints, name)()
        result += 1
        assert ints.tolist() == [1, 2]


@pytest.mark.pytorch
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_a_sum_by_einsum_of_small_integers_is_pytorchs(dtype):
    x = np.array([[200, 100], [1, 0]]).astype(dtype)
    expected = torch.einsum("ij->i", torch.tensor(x)).numpy()
    np.testing.assert_array_equal(mg.einsum("ij->i", x).data, expected, strict=True)


def test_a_shape_or_axis_may_be_an_array_of_one_number():
    x = mg.tensor(A)
    for one in (np.array(1), mg.tensor(1)):
        np.testing.assert_array_equal(x.flip(one).data, A[:, ::-1])
        np.testing.assert_array_equal(x.roll(one, dims=one).data, np.roll(A, 1, 1))
    assert x.reshape(np.array(6)).shape == (6,)


@pytest.mark.parametrize("keepdim", [None, "yes", 2.0])
def test_keepdim_is_true_or_false(keepdim):
    for name in ("sum", "amax", "any", "prod", "norm"):
        with pytest.raises(TypeError, match=r"keepdim is .*True or False"):
            getattr(F, name)(A, dim=0, keepdim=keepdim)


def test_where_with_one_operand_says_what_it_takes():
    with pytest.raises(TypeError, match="where: give input and other, not None"):
        mg.where(A > 0, A)
