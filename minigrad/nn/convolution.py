"""Convolution and pooling as modules: PyTorch's arguments and initial weights."""

import math

from minigrad import functional as F
from minigrad import random
from minigrad.nn.module import Module, Parameter


class _Conv(Module):
    """Weights (out_channels, in_channels / groups, *kernel_size) and a bias, from U(-b, b), b = 1 / sqrt(fan in)."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
        padding_mode="zeros",
    ):  # fmt: skip
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f'{name}: padding_mode is {padding_mode!r}; only "zeros" is supported')
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: {in_channels} and {out_channels} channels do not divide into {groups} groups")
        self.kernel_size = (kernel_size,) * self.axes if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(self.kernel_size) != self.axes:
            raise ValueError(f"{name}: kernel_size is {kernel_size!r}; expected an int or {self.axes} of them")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1.0 / math.sqrt(math.prod(shape[1:]))
        self.weight = Parameter(random.uniform(shape, -bound, bound))
        self.bias = Parameter(random.uniform((out_channels,), -bound, bound)) if bias else None

    def forward(self, x):
        settings = self.stride, self.padding, self.dilation, self.groups
        return getattr(F, f"conv{self.axes}d")(x, self.weight, self.bias, *settings)

    def extra_repr(self):
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, bias={self.bias is not None}"
        )


class Conv1d(_Conv):
    """`F.conv1d`: (N, in_channels, L) -> (N, out_channels, positions)."""

    axes = 1


class Conv2d(_Conv):
    """`F.conv2d`: (N, in_channels, H, W) -> (N, out_channels, positions, positions)."""

    axes = 2


class _Pool(Module):
    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(_Pool):
    """`F.max_pool1d`."""

    function = "max_pool1d"

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x):
        settings = self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        return getattr(F, self.function)(x, self.kernel_size, *settings)


class MaxPool2d(MaxPool1d):
    """`F.max_pool2d`."""

    function = "max_pool2d"


class AvgPool1d(_Pool):
    """`F.avg_pool1d`."""

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x):
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_Pool):
    """`F.avg_pool2d`."""

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def forward(self, x):
        settings = self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        return F.avg_pool2d(x, self.kernel_size, *settings)
