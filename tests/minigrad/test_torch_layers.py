"""Layers: values, gradients and order of arguments are PyTorch's; what they refuse."""

import contextlib
import inspect
import itertools

import numpy as np
import pytest
from torch_peer import compare, normal

import kernels
import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch


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
