"""Convolution and pooling as modules: PyTorch's arguments and initial weights."""

import math
import operator
from typing import Any

from minigrad import functional as F
from minigrad import random
from minigrad._tensor import Tensor
from minigrad.argument_types import Ints, Shape, TensorLike
from minigrad.nn.layers import require_counts
from minigrad.nn.module import Module, Parameter


class _Conv(Module):
    """Weights (out_channels, in_channels / groups, *kernel_size) and a bias, from U(-b, b), b = 1 / sqrt(fan in)."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ValueError(f'{name}: padding_mode is {padding_mode!r}; only "zeros" is supported')
        require_counts(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: {in_channels} and {out_channels} channels do not divide into {groups} groups")
        self.kernel_size = _sizes(name, kernel_size, self.axes)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        bound = 1.0 / math.sqrt(fan_in) if fan_in else 0.0
        self.weight = Parameter(random.uniform(-bound, bound, shape))
        self.bias = Parameter(random.uniform(-bound, bound, (out_channels,))) if bias else None

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, bias={self.bias is not None}"
        )


def _sizes(name: str, kernel_size: Ints, axes: int) -> Shape:
    """A kernel's size on each of the axes."""
    try:
        sizes = tuple(map(operator.index, kernel_size if isinstance(kernel_size, (tuple, list)) else [kernel_size]))
    except TypeError:
        sizes = ()
    if len(sizes) not in (1, axes) or min(sizes) < 1:
        raise ValueError(f"{name}: kernel_size is {kernel_size!r}; expected an int above 0, or {axes} of them")
    return sizes if len(sizes) == axes else sizes * axes


class Conv1d(_Conv):
    """`F.conv1d`: (N, in_channels, L) -> (N, out_channels, positions)."""

    axes = 1

    def forward(self, input: TensorLike) -> Tensor:
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """`F.conv2d`: (N, in_channels, H, W) -> (N, out_channels, positions, positions)."""

    axes = 2

    def forward(self, input: TensorLike) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Pool(Module):
    """Windows of kernel_size at distances of `stride`, which is kernel_size unless given."""

    def __init__(self, kernel_size: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation, self.return_indices = dilation, return_indices


class MaxPool1d(_MaxPool):
    """`F.max_pool1d`. With return_indices=True a pair, as there."""

    def forward(self, input: TensorLike) -> Any:
        settings = self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        return F.max_pool1d(input, self.kernel_size, *settings)


class MaxPool2d(_MaxPool):
    """`F.max_pool2d`. With return_indices=True a pair, as there."""

    def forward(self, input: TensorLike) -> Any:
        settings = self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        return F.max_pool2d(input, self.kernel_size, *settings)


class AvgPool1d(_Pool):
    """`F.avg_pool1d`."""

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, input: TensorLike) -> Tensor:
        settings = self.stride, self.padding, self.ceil_mode, self.count_include_pad
        return F.avg_pool1d(input, self.kernel_size, *settings)


class AvgPool2d(_Pool):
    """`F.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: TensorLike) -> Tensor:
        settings = self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        return F.avg_pool2d(input, self.kernel_size, *settings)
