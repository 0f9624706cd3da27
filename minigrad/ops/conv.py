"""Convolution and pooling by unfolding: every window of the input becomes a column of a matrix.

N batch, C channels of the input, O of the output, K elements of a window. The letters ... stand for one or two spatial
axes: a length, or height and width.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Array, Ints, Shape, TensorLike
from minigrad.ops.checks import check_floats, layer_inputs
from minigrad.ops.elementwise import add, astype, mul
from minigrad.ops.indexing import getitem
from minigrad.ops.linalg import matmul
from minigrad.ops.reduce import sum
from minigrad.ops.shape import expand_dims, reshape

Pairs: TypeAlias = Sequence[tuple[int, int]]  # (before, after), of each spatial axis
Window: TypeAlias = tuple[Shape, Shape, Pairs, Shape]  # kernel_size, stride, padding and dilation of sliding_windows


def sliding_windows(
    x: Tensor, kernel_size: Shape, stride: Shape, padding: Pairs, dilation: Shape, fill: float = 0.0
) -> Tensor:
    """x (N, C, ...) -> (N, C, *kernel_size, *positions): what each element of a window sees at each position.

    kernel_size, stride, dilation: an int for each spatial axis. padding: a pair (before, after) for each, of elements
    `fill` that are put around x. A position counts from 0, at every stride-th element of the padded input.
    """
    padded = _padded(x.data, padding, fill) if any(map(any, padding)) else x.data
    out = np.empty((*x.shape[:2], *kernel_size, *_positions(padded.shape, kernel_size, stride, dilation)), x.dtype,
                   like=x.data)  # fmt: skip
    for element, seen in _elements(out.shape, kernel_size, stride, dilation):
        out[element] = padded[seen]
    return record(
        out, (x,), sliding_windows_backward,
        x_shape=x.shape, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
    )  # fmt: skip


def sliding_windows_backward(
    dout: Array, x_shape: Shape, kernel_size: Shape, stride: Shape, padding: Pairs, dilation: Shape
) -> Array:
    before, after = zip(*padding, strict=True)
    padded = np.add(x_shape[2:], before) + after
    dx = np.zeros((*x_shape[:2], *padded), dout.dtype, like=dout)
    for element, seen in _elements(dout.shape, kernel_size, stride, dilation):
        dx[seen] += dout[element]  # windows overlap, but one element of all windows sees no place twice
    return dx[_unpadded(x_shape[2:], padding)]


def _padded(x: Array, padding: Pairs, fill: float) -> Array:
    """x with pairs (before, after) of elements around its spatial axes."""
    around = [n + a + b for n, (a, b) in zip(x.shape[2:], padding, strict=True)]
    padded = np.empty((*x.shape[:2], *around), x.dtype, like=x)
    padded[...] = fill
    padded[_unpadded(x.shape[2:], padding)] = x
    return padded


def _unpadded(sizes: Shape, padding: Pairs) -> tuple[Any, ...]:
    """The index of what lies between the padding, of these sizes."""
    return (..., *(slice(before, before + n) for n, (before, _) in zip(sizes, padding, strict=True)))


def _positions(padded_shape: Shape, kernel_size: Shape, stride: Shape, dilation: Shape) -> list[int]:
    """How many positions a window has along each spatial axis."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    return [(n - span) // s + 1 for n, span, s in zip(padded_shape[2:], spans, stride, strict=True)]


def _elements(
    shape: Shape, kernel_size: Shape, stride: Shape, dilation: Shape
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """For each element of a window: its index into (N, C, *kernel_size, *positions), and into the padded input."""
    positions = shape[2 + len(kernel_size) :]
    for element in itertools.product(*map(range, kernel_size)):
        starts = [e * d for e, d in zip(element, dilation, strict=True)]
        seen = (slice(a, a + s * (p - 1) + 1, s) for a, s, p in zip(starts, stride, positions, strict=True))
        yield (slice(None), slice(None), *element), (..., *seen)


# ------------------------------------------------------------------------------------------- convolution


def conv1d(
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along the last axis, as in PyTorch. input (N, C, L), or without N; weight (O, C / groups, k),
    bias (O,) -> (N, O, positions). padding: an int, "same" or "valid"."""
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over the last two axes, as in PyTorch. input (N, C, H, W), or without N; weight
    (O, C / groups, kH, kW), bias (O,) -> (N, O, positions, positions). stride, padding, dilation: an int or a pair;
    padding also "same" or "valid"."""
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def _convolution(
    name: str,
    n: int,
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Tensor:
    x, weight, bias = layer_inputs(name, "input weight bias", input, weight, bias)
    x, is_batch = _batched(name, x, n)
    if weight.ndim != n + 2:
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected {n + 2} axes, (O, C / groups, ...)")
    stride, dilation = _each_axis(name, "stride", stride, n), _each_axis(name, "dilation", dilation, n)
    outputs, C = weight.shape[0], x.shape[1]
    if groups < 1 or C != groups * weight.shape[1] or outputs % groups:
        raise ValueError(f"{name}: input {x.shape} and weight {weight.shape} do not fit with groups={groups}")
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected {(outputs,)}")
    kernel_size = weight.shape[2:]
    around = _around(name, padding, kernel_size, stride, dilation)
    _check_windows(name, x.shape, kernel_size, around, dilation)
    windows = sliding_windows(x, kernel_size, stride, around, dilation)
    positions = windows.shape[2 + n :]
    columns = reshape(windows, (len(windows), groups, math.prod(weight.shape[1:]), math.prod(positions)))
    out = matmul(reshape(weight, (groups, outputs // groups, -1)), columns)  # (N, groups, O / groups, positions)
    out = reshape(out, (len(windows), outputs, *positions))
    if bias is not None:
        out = add(out, reshape(bias, (outputs,) + (1,) * n))
    return out if is_batch else out[0]


def _around(name: str, padding: Ints | str, kernel_size: Shape, stride: Shape, dilation: Shape) -> Pairs:
    """(before, after) for each axis."""
    if padding == "valid":
        return [(0, 0)] * len(kernel_size)
    if not isinstance(padding, str):
        return [(p, p) for p in _each_axis(name, "padding", padding, len(kernel_size), lowest=0)]
    if padding != "same":
        raise ValueError(f"{name}: padding is {padding!r}; expected ints, 'same' or 'valid'")
    if any(s != 1 for s in stride):
        raise ValueError(f'{name}: padding="same" needs stride 1')
    total = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    return [(t // 2, t - t // 2) for t in total]


# ------------------------------------------------------------------------------------------- pooling


def max_pool1d(
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest element of each window, whose first occurrence gets the gradient. input (N, C, L), or without N.

    stride: kernel_size unless given. ceil_mode: a window may begin inside and reach outside. return_indices: also where
    along L each stood.
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest element of each window, whose first occurrence gets the gradient. input (N, C, H, W), or without N.

    Arguments as of `max_pool1d`, an int or a pair; the indices count through H * W.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pool(
    name: str,
    n: int,
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    x, is_batch = _batched(name, as_tensor(input), n)
    window = _window(name, x, kernel_size, stride, padding, dilation, ceil_mode)
    windows = sliding_windows(x, *window, fill=-math.inf)
    (N, C), positions = x.shape[:2], windows.shape[2 + n :]
    windows = reshape(windows, (N, C, math.prod(window[0]), math.prod(positions)))
    best = _best(windows.data, x, window)
    rows, columns, places = np.ogrid[:N, :C, : best.shape[2]]
    where = tuple(np.asarray(i, like=best) for i in (rows, columns)) + (best, np.asarray(places, like=best))
    out = reshape(getitem(windows, where), (N, C, *positions))
    out = out if is_batch else out[0]
    if not return_indices:
        return out
    indices = _places(best.reshape(N, C, *positions), x.shape, *window)
    return out, Tensor(indices if is_batch else indices[0])


def _best(windows: Array, x: Tensor, window: Window) -> Array:
    """Which element of each window (N, C, K, P) is the largest: the first of equals, but of NaNs the last."""
    best = windows.argmax(axis=2)  # (N, C, P)
    highest = windows.max(axis=2, keepdims=True)
    if np.isfinite(highest).all():
        return best
    ones = Tensor(np.zeros((1, 1, *x.shape[2:]), x.dtype, like=x.data) + 1)
    inside = sliding_windows(ones, *window).data  # padding: 0
    best = ((windows == highest) & (inside.reshape(1, 1, *windows.shape[2:]) == 1)).argmax(axis=2)
    is_nan = np.isnan(windows)
    last = windows.shape[2] - 1 - is_nan[:, :, ::-1].argmax(axis=2)
    return np.where(is_nan.any(axis=2), last, best)


def _places(best: Array, x_shape: Shape, kernel_size: Shape, stride: Shape, around: Pairs, dilation: Shape) -> Array:
    """Which element of x, counted through the spatial axes, element `best` (N, C, *positions) of each window is."""
    place, behind = np.zeros_like(best), math.prod(kernel_size)  # behind: elements of a window for each step
    for axis, size in enumerate(kernel_size):
        behind //= size
        element = best // behind % size
        shape = [1] * best.ndim
        shape[2 + axis] = -1
        first = np.arange(best.shape[2 + axis], like=best).reshape(shape) * stride[axis] - around[axis][0]
        place = place * x_shape[2 + axis] + first + element * dilation[axis]
    return place


def avg_pool1d(
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window. input (N, C, L), or without N. count_include_pad: padding counts as elements."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window. input (N, C, H, W), or without N. Arguments as of `avg_pool1d`, an int or a pair.

    divisor_override: what the sum of a window is divided by, instead of the number of its elements.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _avg_pool(
    name: str,
    n: int,
    input: TensorLike,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    x, is_batch = _batched(name, as_tensor(input), n)
    window = _window(name, x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor is not None and divisor == 0:
        raise ValueError(f"{name}: divisor_override is 0")
    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype  # sums in float16 would lose digits
    out = sum(sliding_windows(astype(x, wide), *window), axis=tuple(range(2, 2 + n)))
    if divisor is None:
        counts = _counts(x.shape[2:], out.shape[2:], window, count_include_pad)
        out = mul(out, Tensor(np.asarray(1.0 / counts, dtype=wide, like=x.data)))
    else:
        out = mul(out, 1.0 / divisor)
    out = astype(out, x.dtype)
    return out if is_batch else out[0]


def _counts(sizes: Shape, positions: Shape, window: Window, count_include_pad: bool) -> Array:
    """How many elements each window has: inside the axes of these sizes, or inside the padding."""
    kernel_size, stride, around, _ = window
    counts = np.ones((1,) * len(sizes))
    for axis, (n, k, s, (before, _)) in enumerate(zip(sizes, kernel_size, stride, around, strict=True)):
        counted = before if count_include_pad else 0  # of the padding at either end; what ceil_mode adds never counts
        first = np.arange(positions[axis]) * s - before
        along = np.minimum(first + k, n + counted) - np.maximum(first, -counted)
        counts = counts * np.expand_dims(along, tuple(i for i in range(len(sizes)) if i != axis))
    return counts


# ------------------------------------------------------------------------------------------- arguments


def _batched(name: str, x: Tensor, n: int) -> tuple[Tensor, bool]:
    """x as (N, C, ...), and whether it had a batch axis."""
    check_floats(name, input=x)
    if x.ndim not in (n + 1, n + 2):
        raise ValueError(f"{name}: input has shape {x.shape}, expected {n + 2} axes, or {n + 1} without a batch")
    return (x, True) if x.ndim == n + 2 else (expand_dims(x, 0), False)


def _each_axis(name: str, what: str, value: Ints, n: int, lowest: int = 1) -> Shape:
    """An int for each of n axes, from an int or a sequence of one or n."""
    values = (value,) if isinstance(value, (int, np.integer)) else tuple(value) if np.iterable(value) else ()
    values = values * n if len(values) == 1 else values
    if len(values) != n or any(type(v) is bool or not isinstance(v, (int, np.integer)) or v < lowest for v in values):
        raise ValueError(f"{name}: {what} is {value!r}; expected an int of at least {lowest}, or {n} of them")
    return tuple(map(int, values))


def _window(
    name: str,
    x: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> Window:
    """What `sliding_windows` takes, from the arguments of a pooling. stride: kernel_size if None or empty."""
    n = x.ndim - 2
    size, gap = _each_axis(name, "kernel_size", kernel_size, n), _each_axis(name, "dilation", dilation, n)
    step = size if stride is None or np.size(stride) == 0 else _each_axis(name, "stride", stride, n)
    around = _each_axis(name, "padding", padding, n, lowest=0)
    if any(2 * p > k for p, k in zip(around, size, strict=True)):
        raise ValueError(f"{name}: padding {around} is more than half of kernel_size {size}")
    pairs = _with_ceil(x.shape, size, step, around, gap) if ceil_mode else [(p, p) for p in around]
    _check_windows(name, x.shape, size, pairs, gap)
    return size, step, pairs, gap


def _with_ceil(x_shape: Shape, kernel_size: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Pairs:
    """(before, after) for each axis: as much behind as one more window needs that begins inside."""
    around = []
    for n, k, s, p, d in zip(x_shape[2:], kernel_size, stride, padding, dilation, strict=True):
        positions = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
        positions -= (positions - 1) * s >= n + p
        around.append((p, max(p, (positions - 1) * s + d * (k - 1) + 1 - n - p)))
    return around


def _check_windows(name: str, x_shape: Shape, kernel_size: Shape, around: Pairs, dilation: Shape) -> None:
    for n, k, (a, b), d in zip(x_shape[2:], kernel_size, around, dilation, strict=True):
        if d * (k - 1) + 1 > n + a + b:
            raise ValueError(f"{name}: a window of {d * (k - 1) + 1} elements does not fit an axis of {n} + {a} + {b}")
