"""Convolution and pooling by unfolding: every window of the input becomes a column of a matrix.

N batch, C channels of the input, O of the output, K elements of a window. The letters ... stand for one or two spatial
axes: a length, or height and width.
"""

import itertools
import math

import numpy as np

from minigrad._tensor import Tensor, as_tensor, record
from minigrad.argument_types import Ints, TensorLike
from minigrad.ops.elementwise import add, astype, mul
from minigrad.ops.indexing import getitem
from minigrad.ops.linalg import matmul
from minigrad.ops.nn import check_floats, layer_inputs
from minigrad.ops.reduce import sum
from minigrad.ops.shape import expand_dims, reshape


def sliding_windows(x, kernel_size, stride, padding, dilation, fill=0.0):
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


def sliding_windows_backward(dout, x_shape, kernel_size, stride, padding, dilation):
    before, after = zip(*padding, strict=True)
    padded = np.add(x_shape[2:], before) + after
    dx = np.zeros((*x_shape[:2], *padded), dout.dtype, like=dout)
    for element, seen in _elements(dout.shape, kernel_size, stride, dilation):
        dx[seen] += dout[element]  # windows overlap, but one element of all windows sees no place twice
    return dx[(..., *(slice(a, a + n) for a, n in zip(before, x_shape[2:], strict=True)))]


def _padded(x, padding, fill):
    """x with pairs (before, after) of elements around its spatial axes."""
    around = [n + a + b for n, (a, b) in zip(x.shape[2:], padding, strict=True)]
    padded = np.empty((*x.shape[:2], *around), x.dtype, like=x)
    padded[...] = fill
    padded[(..., *(slice(a, a + n) for n, (a, _) in zip(x.shape[2:], padding, strict=True)))] = x
    return padded


def _positions(padded_shape, kernel_size, stride, dilation):
    """How many positions a window has along each spatial axis."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    return [(n - span) // s + 1 for n, span, s in zip(padded_shape[2:], spans, stride, strict=True)]


def _elements(shape, kernel_size, stride, dilation):
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


def _convolution(name, n, input, weight, bias, stride, padding, dilation, groups):
    x, weight, bias = layer_inputs(name, "input weight bias", input, weight, bias)
    x, is_batch = _batched(name, x, n)
    stride, dilation = _each_axis(name, "stride", stride, n), _each_axis(name, "dilation", dilation, n)
    outputs, C = weight.shape[0], x.shape[1]
    if weight.ndim != n + 2 or groups < 1 or C != groups * weight.shape[1] or outputs % groups:
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


def _around(name, padding, kernel_size, stride, dilation):
    """(before, after) for each axis."""
    if padding == "valid":
        return [(0, 0)] * len(kernel_size)
    if padding != "same":
        return [(p, p) for p in _each_axis(name, "padding", padding, len(kernel_size), lowest=0)]
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


def _max_pool(name, n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    x, is_batch = _batched(name, as_tensor(input), n)
    kernel_size, stride, padding = _window(name, kernel_size, stride, padding, n)
    dilation = _each_axis(name, "dilation", dilation, n)
    around = _with_ceil(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    _check_windows(name, x.shape, kernel_size, around, dilation)
    windows = sliding_windows(x, kernel_size, stride, around, dilation, fill=-math.inf)
    (N, C), positions = x.shape[:2], windows.shape[2 + n :]
    windows = reshape(windows, (N, C, math.prod(kernel_size), math.prod(positions)))
    best = windows.data.argmax(axis=2)  # (N, C, positions); of NaN the first
    rows, columns, places = np.ogrid[:N, :C, : math.prod(positions)]
    where = tuple(np.asarray(i, like=best) for i in (rows, columns)) + (best, np.asarray(places, like=best))
    out = reshape(getitem(windows, where), (N, C, *positions))
    out = out if is_batch else out[0]
    if not return_indices:
        return out
    indices = _places(best.reshape(N, C, *positions), x.shape, kernel_size, stride, around, dilation)
    return out, Tensor(indices if is_batch else indices[0])


def _places(best, x_shape, kernel_size, stride, around, dilation):
    """Which element of x, counted through the spatial axes, element `best` (N, C, *positions) of each window is."""
    place, behind = 0, math.prod(kernel_size)  # behind: elements of a window for each step along the axis
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


def _avg_pool(name, n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor):
    x, is_batch = _batched(name, as_tensor(input), n)
    kernel_size, stride, padding = _window(name, kernel_size, stride, padding, n)
    around = _with_ceil(x.shape, kernel_size, stride, padding, (1,) * n, ceil_mode)
    _check_windows(name, x.shape, kernel_size, around, (1,) * n)
    if divisor is not None and divisor == 0:
        raise ValueError(f"{name}: divisor_override is 0")
    wide = np.float32 if x.dtype == np.float16 else x.dtype  # sums in float16 would lose digits
    windows = sliding_windows(astype(x, wide), kernel_size, stride, around, (1,) * n)
    out = sum(windows, axis=tuple(range(2, 2 + n)))
    if divisor is None:
        counted = [p if count_include_pad else 0 for p in padding]
        counts = np.ones((1,) * n)
        for axis, (k, s, p, c) in enumerate(zip(kernel_size, stride, padding, counted, strict=True)):
            first = np.arange(out.shape[2 + axis]) * s - p
            along = np.minimum(first + k, x.shape[2 + axis] + c) - np.maximum(first, -c)
            counts = counts * np.expand_dims(along, tuple(i for i in range(n) if i != axis))
        out = mul(out, Tensor(np.asarray(1.0 / counts, dtype=wide, like=x.data)))
    else:
        out = mul(out, 1.0 / divisor)
    out = astype(out, x.dtype)
    return out if is_batch else out[0]


# ------------------------------------------------------------------------------------------- arguments


def _batched(name, x, n):
    """x as (N, C, ...), and whether it had a batch axis."""
    check_floats(name, input=x)
    if x.ndim not in (n + 1, n + 2):
        raise ValueError(f"{name}: input has shape {x.shape}, expected {n + 2} axes, or {n + 1} without a batch")
    return (x, True) if x.ndim == n + 2 else (expand_dims(x, 0), False)


def _each_axis(name, what, value, n, lowest=1):
    """An int for each of n axes, from an int or a sequence of one or n."""
    values = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
    values = values * n if len(values) == 1 else values
    if len(values) != n or any(not isinstance(v, (int, np.integer)) or v < lowest for v in values):
        raise ValueError(f"{name}: {what} is {value!r}; expected an int of at least {lowest}, or {n} of them")
    return tuple(map(int, values))


def _window(name, kernel_size, stride, padding, n):
    kernel_size = _each_axis(name, "kernel_size", kernel_size, n)
    stride = kernel_size if stride is None or stride == () else _each_axis(name, "stride", stride, n)
    padding = _each_axis(name, "padding", padding, n, lowest=0)
    if any(2 * p > k for p, k in zip(padding, kernel_size, strict=True)):
        raise ValueError(f"{name}: padding {padding} is more than half of kernel_size {kernel_size}")
    return kernel_size, stride, padding


def _with_ceil(x_shape, kernel_size, stride, padding, dilation, ceil_mode):
    """(before, after) for each axis: with ceil_mode as much behind as one more window needs that begins inside."""
    around = []
    for n, k, s, p, d in zip(x_shape[2:], kernel_size, stride, padding, dilation, strict=True):
        after = p
        if ceil_mode:
            positions = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
            positions -= (positions - 1) * s >= n + p
            after = max(p, (positions - 1) * s + d * (k - 1) + 1 - n - p)
        around.append((p, after))
    return around


def _check_windows(name, x_shape, kernel_size, around, dilation):
    for n, k, (a, b), d in zip(x_shape[2:], kernel_size, around, dilation, strict=True):
        if d * (k - 1) + 1 > n + a + b:
            raise ValueError(f"{name}: a window of {d * (k - 1) + 1} elements does not fit an axis of {n} + {a} + {b}")
