"""Layers, attention, losses, convolution and pooling: values, gradients and names of weights are PyTorch's."""

import contextlib
import inspect
import itertools

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def compare(function, *arrays, **settings):
    """mg.F.FUNCTION and torch.nn.functional.FUNCTION: the same values, and gradients of all floats among `arrays`."""
    theirs = getattr(torch.nn.functional, function)
    compare_calls(getattr(mg.F, function), theirs, arrays, settings)


def compare_calls(ours, theirs, arrays, settings):
    def is_float(x):
        return isinstance(x, np.ndarray) and x.dtype.kind == "f"

    def of_torch(x, requires_grad=False):
        return torch.tensor(x, requires_grad=requires_grad and is_float(x)) if isinstance(x, np.ndarray) else x

    mine = [mg.tensor(a, requires_grad=True) if is_float(a) else a for a in arrays]
    others = [of_torch(a, True) for a in arrays]
    settings_of_torch = {name: of_torch(value) for name, value in settings.items()}
    outs, expected = ours(*mine, **settings), theirs(*others, **settings_of_torch)
    outs, expected = ((x if isinstance(x, tuple) else (x,)) for x in (outs, expected))
    assert len(outs) == len(expected)
    for out, peer in zip(outs, expected, strict=True):
        np.testing.assert_allclose(out.data, peer.detach().numpy(), rtol=1e-10, atol=1e-12, strict=True)
    upstream = np.random.default_rng(2).standard_normal(outs[0].shape)
    outs[0].backward(upstream)
    expected[0].backward(torch.tensor(upstream))
    for a, b in zip(mine, others, strict=True):
        if isinstance(a, mg.Tensor):
            peer = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
            np.testing.assert_allclose(np.zeros(a.shape) if a.grad is None else a.grad, peer, rtol=1e-9, atol=1e-11)


def product(**choices):
    """Every combination, as dicts."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


# ------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("function", [
    "linear", "embedding", "layer_norm", "rms_norm", "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "kl_div",
    "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "dropout", "scaled_dot_product_attention", "conv1d", "conv2d", "avg_pool1d", "avg_pool2d",
])  # fmt: skip
def test_arguments_stand_in_the_order_of_torch(function):
    ours = inspect.signature(getattr(mg.F, function)).parameters.values()
    theirs = getattr(torch.nn.functional, function)
    try:
        theirs = inspect.signature(theirs).parameters.values()
        expected = [(p.name, None if p.default is p.empty else p.default) for p in theirs]
    except ValueError:  # a builtin, whose docstring begins with the signature
        text = theirs.__doc__.strip().split("->")[0].strip()
        names = [part.split("=")[0].strip() for part in text[text.index("(") + 1 : text.rindex(")")].split(",")]
        assert [p.name for p in ours] == [name for name in names if name != "*"]
        return
    assert [(p.name, None if p.default is p.empty else p.default) for p in ours] == expected


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_norms_over_several_axes_with_and_without_weights(kernel_set):
    x = normal(2, 3, 4)
    with kernels.use(kernel_set):
        for shape in ((4,), (3, 4), (2, 3, 4)):
            compare("layer_norm", x, shape)
            compare("layer_norm", x, shape, normal(*shape))
            compare("layer_norm", x, shape, normal(*shape), normal(*shape), eps=0.1)
            compare("layer_norm", x, shape, None, normal(*shape))
            compare("rms_norm", x, shape)
            compare("rms_norm", x, shape, normal(*shape), eps=0.1)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_the_row_of_padding_gets_no_gradient(kernel_set):
    ids = np.array([[1, 4, 1], [0, 3, 1]])
    with kernels.use(kernel_set):
        for padding_idx in (None, 1, -1, 2):
            compare("embedding", ids, normal(5, 3), padding_idx)


def test_softmax_takes_a_dtype_and_asks_for_the_axis():
    x = normal(2, 3, 4)
    for function, dim in itertools.product(("softmax", "log_softmax"), (0, 1, -1)):
        compare(function, x, dim)
        ours = getattr(mg.F, function)(mg.tensor(x.astype(np.float32)), dim=dim, dtype=np.float64)
        theirs = getattr(torch.nn.functional, function)(torch.tensor(x).float(), dim=dim, dtype=torch.float64)
        np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-12, strict=True)
        half = getattr(mg.F, function)(mg.tensor(x.astype(np.float16)), dim=dim)
        assert half.dtype == np.float16
        with pytest.raises(TypeError, match=f"{function}: give the axis as dim= or axis="):
            getattr(mg.F, function)(mg.tensor(x))


# ------------------------------------------------------------------------------------------------ attention

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


# ------------------------------------------------------------------------------------------------ losses

REDUCTIONS = ["mean", "sum", "none"]
SHAPES = [(5,), (4, 5), (4, 5, 3), (2, 5, 3, 2)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_of_indices_and_probabilities(shape, reduction):
    axis = 1 if len(shape) > 1 else 0
    targets = RNG.integers(0, 5, [n for i, n in enumerate(shape) if i != axis])
    some = np.where(RNG.random(targets.shape) < 0.3, 2, targets)
    probabilities = RNG.dirichlet(np.ones(5), targets.shape)
    probabilities = np.ascontiguousarray(np.moveaxis(probabilities, -1, axis))
    for setting in product(weight=[None, RNG.uniform(0.5, 2, 5)], label_smoothing=[0.0, 0.3]):
        setting["reduction"] = reduction
        compare("cross_entropy", normal(*shape), targets, **setting)
        compare("cross_entropy", normal(*shape), some, ignore_index=2, **setting)
        compare("cross_entropy", normal(*shape), probabilities, **setting)
    for weight in (None, RNG.uniform(0.5, 2, 5)):
        compare("nll_loss", normal(*shape), targets, weight=weight, reduction=reduction)
        compare("nll_loss", normal(*shape), some, weight=weight, reduction=reduction, ignore_index=2)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_batch_of_ignored_targets_only(reduction):
    """The mean over nothing is NaN, as in PyTorch; the gradient is not."""
    for setting in product(weight=[None, np.ones(5)], label_smoothing=[0.0, 0.3]):
        compare("cross_entropy", normal(2, 5), np.array([-100, -100]), reduction=reduction, **setting)


@pytest.mark.filterwarnings("ignore:.*batchmean")  # of PyTorch
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_two_arrays(reduction):
    a, b = normal(4, 3), normal(4, 3)
    for function in ("mse_loss", "l1_loss"):
        compare(function, a, b, reduction=reduction)
        compare(function, a, b, reduction=reduction, weight=RNG.uniform(0.5, 2, (4, 3)))
    for limit in (0.2, 1.0, 3):
        compare("smooth_l1_loss", a, b, reduction=reduction, beta=limit)
        compare("huber_loss", a, b, reduction=reduction, delta=limit)
    compare("smooth_l1_loss", a, b, reduction=reduction, beta=0.0)
    compare("huber_loss", a, b, reduction=reduction, weight=RNG.uniform(0.5, 2, (4, 3)))
    with pytest.warns(UserWarning, match=r"input has shape \(4, 3\), target \(3,\)"):
        mg.F.mse_loss(mg.tensor(a), b[0])
    p, log_q = RNG.dirichlet(np.ones(3), 4), np.log(RNG.dirichlet(np.ones(3), 4))
    p_with_zero = np.where([[True, True, False]] * 4, p, 0.0)
    for how in (reduction, "batchmean"):
        compare("kl_div", log_q, p, reduction=how)
        compare("kl_div", log_q, np.log(p), reduction=how, log_target=True)
        ours, theirs = mg.F.kl_div(log_q, p_with_zero, reduction=how), torch.nn.functional.kl_div(
            torch.tensor(log_q), torch.tensor(p_with_zero), reduction=how)  # fmt: skip
        np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    x, p, weight = normal(4, 3) * 20, RNG.random((4, 3)), RNG.random((4, 3))
    for setting in product(weight=[None, weight[0], weight]):
        compare("binary_cross_entropy", RNG.random((4, 3)), p, reduction=reduction, **setting)
    for setting in product(weight=[None, weight], pos_weight=[None, weight[0] * 3]):
        for target in (p, (p > 0.5).astype(float)):
            compare("binary_cross_entropy_with_logits", x, target, reduction=reduction, **setting)
    check_modules(nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=weight[0]), torch.nn.BCEWithLogitsLoss(
        torch.tensor(weight), reduction=reduction, pos_weight=torch.tensor(weight[0])), x, p)  # fmt: skip


def test_the_loss_of_a_sure_and_right_answer_is_not_zero():
    """exp(-50), where PyTorch's formula for a negative logit gives 0; so are gradients."""
    for x, target in ((50.0, 1.0), (-50.0, 0.0)):
        logit = mg.tensor(np.array([x]), requires_grad=True)
        loss = mg.F.binary_cross_entropy_with_logits(logit, np.array([target]))
        loss.backward()
        np.testing.assert_allclose([loss.data, np.abs(logit.grad[0])], np.exp(-50.0), rtol=1e-14)


def test_a_certain_and_wrong_probability_costs_100_and_has_a_finite_gradient():
    arrays = np.array([0, 0, 1, 1, 0.5, 1e-30, 1]), np.array([0, 1, 0, 1, 0.5, 1, 0.5])
    ours, theirs = (
        [mg.tensor(a, requires_grad=True) for a in arrays],
        [torch.tensor(a).requires_grad_() for a in arrays],
    )
    for inputs, function in ((ours, mg.F), (theirs, torch.nn.functional)):
        loss = function.binary_cross_entropy(*inputs)
        loss.backward()
        assert loss.item() > 3 * 100 / 7
    for x, peer in zip(ours, theirs, strict=True):  # PyTorch's limit of the gradient is 1e-12 in float32
        np.testing.assert_allclose(x.grad, peer.grad.numpy(), rtol=1e-8)


def test_one_outlier_of_infinity_leaves_the_gradients_of_huber_and_smooth_l1_finite():
    """Squares of it would be infinite, and infinity times 0 is NaN."""
    difference = np.array([np.inf, -np.inf, np.nan, 1.0, -1.0, 0.0, 2.0, 1e200])
    for function, limit in (("huber_loss", {"delta": 1.0}), ("smooth_l1_loss", {"beta": 0.5})):
        compare(function, difference, np.zeros(8), reduction="none", **limit)


def test_one_hot():
    ids = np.array([[1, 0], [3, 1]])
    for n in (-1, 4, 6):
        ours, theirs = mg.F.one_hot(ids, n).data, torch.nn.functional.one_hot(torch.tensor(ids), n).numpy()
        np.testing.assert_array_equal(ours, theirs, strict=True)
    with pytest.raises(IndexError, match=r"class 3 is outside 0\.\.2"):
        mg.F.one_hot(ids, 3)


BAD_LOSSES = {
    "reduction": (lambda x: mg.F.cross_entropy(x, [0, 1], reduction="average"), ValueError, "'average'; expected"),
    "smoothing": (lambda x: mg.F.cross_entropy(x, [0, 1], label_smoothing=2.0), ValueError, "label_smoothing is 2.0"),
    "weight": (lambda x: mg.F.cross_entropy(x, [0, 1], np.ones(3, np.float32)), ValueError, r"\(3,\), expected \(5,\)"),
    "weight dtype": (lambda x: mg.F.cross_entropy(x, [0, 1], np.ones(5)), TypeError, "float32, weight float64"),
    "classes last": (lambda x: mg.F.cross_entropy(x.reshape(1, 2, 5), [[0, 1]]), ValueError, r"need targets \(1, 5\)"),
    "probabilities": (lambda x: mg.F.cross_entropy(x, np.ones((2, 4), np.float32)), ValueError, "shape of input"),
    "size_average": (lambda x: mg.F.mse_loss(x, x, True), TypeError, "size_average is not supported"),
    "integers": (lambda x: mg.F.cross_entropy(np.ones((2, 5), int), [0, 1]), TypeError, "input is int64"),
    "no probabilities": (lambda x: mg.F.binary_cross_entropy(x * 2, x), ValueError, r"input has entries outside 0"),
    "no targets": (lambda x: mg.F.binary_cross_entropy(x, -x), ValueError, r"target has entries outside 0"),
    "weights": (lambda x: mg.F.binary_cross_entropy(x, x, np.ones((3, 1, 1))), ValueError, "weight has shape"),
    "target's shape": (lambda x: mg.F.binary_cross_entropy(x, x[0]), ValueError, r"target has shape \(5,\)"),
    "delta": (lambda x: mg.F.huber_loss(x, x, delta=0), ValueError, "delta is 0; expected more than 0"),
    "beta": (lambda x: mg.F.smooth_l1_loss(x, x, beta=-1), ValueError, "beta is -1; expected at least 0"),
    "kl batchmean": (lambda x: mg.F.mse_loss(x, x, reduction="batchmean"), ValueError, "'batchmean'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_what_a_loss_cannot_do_is_said_in_one_line(name):
    call, error, message = BAD_LOSSES[name]
    with pytest.raises(error, match=message):
        call(mg.tensor(np.ones((2, 5), np.float32)))


@pytest.mark.parametrize("layer", ["linear", "layer_norm", "rms_norm", "scaled_dot_product_attention", "conv1d"])
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_double_input_of_a_float_layer_and_integers_are_refused_in_forward(layer, kernel_set):
    """The everyday `nn.Linear(3, 2)(tensor(np.random.randn(1, 3)))`."""
    calls = {
        "linear": lambda x: nn.Linear(3, 3)(x), "layer_norm": lambda x: nn.LayerNorm(3)(x),
        "rms_norm": lambda x: nn.RMSNorm(3)(x), "conv1d": lambda x: nn.Conv1d(3, 2, 1)(x),
        "scaled_dot_product_attention": lambda x: mg.F.scaled_dot_product_attention(x, np.ones((3, 3), np.float32), x),
    }  # fmt: skip
    with kernels.use(kernel_set):
        with pytest.raises(TypeError, match=r"float64, \w+ float32; convert either with \.astype"):
            calls[layer](mg.tensor(normal(3, 3)))
        for dtype, message in ((int, "is int64, expected floating-point"), (np.float16, "float16")):
            with pytest.raises(TypeError, match=message) as caught:
                calls[layer](mg.tensor(np.ones((3, 3), dtype)))
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_settings_given_as_numbers_of_numpy_do_not_widen_float32(kernel_set):
    """`scale=1 / np.sqrt(D)` is a float64 scalar of NumPy."""
    x, half = mg.tensor(normal(3, 3).astype(np.float32), requires_grad=True), np.float64(0.5)
    ones = np.ones(3, np.float32)
    with kernels.use(kernel_set):
        for out in (
            mg.F.scaled_dot_product_attention(x, x, x, scale=half), mg.F.softmax(x, dim=np.int64(0)),
            mg.F.scaled_dot_product_attention(x, x, x, np.tri(3, dtype=bool), scale=half, dropout_p=half),
            mg.F.layer_norm(x, np.int64(3), eps=half), mg.F.rms_norm(x, (3,), eps=half), mg.F.dropout(x, half),
            mg.F.cross_entropy(x, [0, 1, 2], label_smoothing=half), mg.F.layernorm(x, ones, ones, half),
        ):  # fmt: skip
            x.grad = None
            out.sum().backward()
            assert (out.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_gelu_of_integers_is_not_truncated():
    np.testing.assert_allclose(mg.gelu([1, 2, 3]).data, mg.gelu([1.0, 2.0, 3.0]).data)


# ------------------------------------------------------------------------------------------------ convolution, pooling


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # of PyTorch
@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
def test_convolution(padding):
    for stride, dilation, groups in itertools.product((1, 2), (1, 2), (1, 2)):
        setting = {
            "stride": stride if padding != "same" else 1,
            "dilation": dilation,
            "groups": groups,
            "padding": padding,
        }
        for lead in ((2,), ()):
            compare("conv1d", normal(*lead, 4, 9), normal(6, 4 // groups, 3), normal(6), **setting)
            compare("conv2d", normal(*lead, 4, 8, 9), normal(6, 4 // groups, 2, 3), None, **setting)
    compare("conv2d", normal(1, 2, 7, 9), normal(3, 2, 2, 4), normal(3), stride=(2, 3), padding=(1, 2), dilation=(2, 1))
    compare("conv1d", normal(1, 2, 5), normal(3, 2, 5), normal(3))  # one position


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling(ceil_mode):
    for kernel, stride, padding, dilation in ((2, None, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (3, 4, 0, 1)):
        for lead in ((2,), ()):
            setting = {"ceil_mode": ceil_mode, "stride": stride, "padding": padding}
            for return_indices in (False, True):
                more = {"dilation": dilation, "return_indices": return_indices}
                compare("max_pool1d", normal(*lead, 3, 10), kernel, **setting, **more)
                compare(
                    "max_pool2d", normal(*lead, 3, 10, 8), (kernel, 2), **{**setting, "padding": (padding, 0)}, **more
                )
            setting = {name: value for name, value in setting.items() if value is not None}
            for count in (False, True):
                compare("avg_pool1d", normal(*lead, 3, 10), kernel, **setting, count_include_pad=count)
                compare("avg_pool2d", normal(*lead, 3, 9, 10), kernel, **setting, count_include_pad=count)
            compare("avg_pool2d", normal(*lead, 3, 9, 10), kernel, **setting, divisor_override=5)


def test_of_equal_largest_elements_the_first_gets_the_gradient():
    """After a ReLU most windows have several zeros."""
    x = np.maximum(np.round(normal(2, 3, 6, 6)), 0.0)
    compare("max_pool2d", x, 2)
    compare("max_pool1d", x[0], 3, 1, 1)
    missing = np.where(RNG.random((1, 2, 6)) < 0.3, np.nan, x[0, :2, :1])
    expected = torch.nn.functional.max_pool1d(torch.tensor(missing), 2).numpy()
    np.testing.assert_array_equal(mg.F.max_pool1d(missing, 2).data, expected)


BAD_CONVOLUTIONS = {
    "groups": (lambda x: mg.F.conv1d(x, np.ones((3, 2, 2), np.float32), groups=2), "do not fit with groups=2"),
    "window": (lambda x: mg.F.conv1d(x, np.ones((3, 4, 9), np.float32)), "a window of 9 elements does not fit"),
    "bias": (lambda x: mg.F.conv1d(x, np.ones((3, 4, 2), np.float32), np.ones(4, np.float32)), "bias has shape"),
    "stride": (lambda x: mg.F.conv1d(x, np.ones((3, 4, 2), np.float32), stride=0), "stride is 0"),
    "same": (lambda x: mg.F.conv1d(x, np.ones((3, 4, 2), np.float32), stride=2, padding="same"), "needs stride 1"),
    "padding": (lambda x: mg.F.max_pool1d(x, 2, padding=2), "more than half"), "axes": (lambda x: mg.F.conv2d(
        x[0], np.ones((3, 4, 2, 2), np.float32)), "expected 4 axes, or 3"),
    "pad": (lambda x: mg.F.conv1d(x, np.ones((3, 4, 2), np.float32), padding="full"), "padding is 'full'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CONVOLUTIONS)
def test_what_convolution_cannot_do_is_said_in_one_line(name):
    call, message = BAD_CONVOLUTIONS[name]
    with pytest.raises(ValueError, match=message):
        call(mg.tensor(np.ones((2, 4, 5), np.float32)))


# ------------------------------------------------------------------------------------------------ modules

MODULES = {
    "Linear": ((3, 2), (4, 3)), "LayerNorm": (((2, 3),), (4, 2, 3)), "RMSNorm": ((3,), (4, 3)),
    "Conv1d": ((4, 6, 3, 2, 1, 1, 2), (2, 4, 9)), "Conv2d": ((3, 2, (2, 3)), (2, 3, 5, 6)),
    "MaxPool1d": ((3, 2, 1), (2, 3, 9)), "MaxPool2d": ((2,), (2, 3, 6, 6)), "AvgPool1d": ((3, 2, 1), (2, 3, 9)),
    "AvgPool2d": ((2,), (2, 3, 6, 6)), "ReLU": ((), (3, 4)), "GELU": ((), (3, 4)), "SiLU": ((), (3, 4)),
    "Tanh": ((), (3, 4)), "Sigmoid": ((), (3, 4)), "Softmax": ((1,), (3, 4)), "LogSoftmax": ((1,), (3, 4)),
    "LeakyReLU": ((0.2,), (3, 4)), "ELU": ((0.7,), (3, 4)), "Softplus": ((2.0,), (3, 4)), "Hardtanh": ((), (3, 4)),
    "LogSigmoid": ((), (3, 4)), "Identity": ((54,), (3, 4)), "Flatten": ((), (2, 3, 4)), "Dropout": ((0.0,), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_the_weights_of_torch_and_gives_its_values_and_gradients(name):
    arguments, shape = MODULES[name]
    ours, theirs = getattr(nn, name)(*arguments).double(), getattr(torch.nn, name)(*arguments).double()
    check_modules(ours, theirs, normal(*shape))


def check_modules(ours, theirs, *inputs, call=lambda m, *x: m(*x)):
    weights = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(weights)
    assert {key: a.shape for key, a in ours.state_dict().items()} == {key: a.shape for key, a in weights.items()}
    ours.load_state_dict(weights)
    compare_calls(lambda *x: call(ours, *x), lambda *x: call(theirs, *x), inputs, {})
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(own.grad, other.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*batchmean")  # of PyTorch
@pytest.mark.parametrize("name", [
    "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "KLDivLoss", "CrossEntropyLoss", "NLLLoss",
])  # fmt: skip
def test_losses_as_modules(name):
    of_classes = name in ("CrossEntropyLoss", "NLLLoss")
    second = RNG.integers(0, 5, 4) if of_classes else RNG.random((4, 5))
    for reduction in REDUCTIONS:
        ours, theirs = (getattr(library, name)(reduction=reduction) for library in (nn, torch.nn))
        check_modules(ours, theirs, RNG.random((4, 5)) if name == "BCELoss" else normal(4, 5), second)
    if of_classes:
        weight = RNG.random(5)
        check_modules(getattr(nn, name)(weight), getattr(torch.nn, name)(torch.tensor(weight)), normal(4, 5), second)


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


def test_initial_weights_have_the_spread_of_torch():
    torch.manual_seed(0)
    mg.random.seek(0)
    for make in (
        lambda n: n.Linear(200, 100), lambda n: n.Conv2d(20, 50, 3), lambda n: n.Conv1d(40, 50, 3, groups=2),
        lambda n: n.MultiheadAttention(96, 4), lambda n: n.MultiheadAttention(96, 4, kdim=32),
        lambda n: n.Embedding(99, 50),
    ):  # fmt: skip
        ours, theirs = make(nn), make(torch.nn)
        for (name, own), (other_name, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert (name, own.shape, str(own.dtype)) == (other_name, tuple(other.shape), "float32")
            if own.size > 1000:
                assert own.data.std() == pytest.approx(float(other.detach().std()), rel=0.05), name
            if not other.detach().any():
                assert not own.data.any(), name
    assert not nn.Embedding(4, 3, padding_idx=2).weight.data[2].any()
