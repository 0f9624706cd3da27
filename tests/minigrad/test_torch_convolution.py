"""Convolution and pooling: values and gradients are PyTorch's."""

import contextlib
import itertools

import numpy as np
import pytest
from torch_peer import RNG, compare, normal

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch


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
