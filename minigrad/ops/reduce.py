"""Reductions over any axes: None for all, an int or a tuple; keepdims as in NumPy."""

import numpy as np

from minigrad._tensor import record


def _normalised(axis, ndim):
    """The axes reduced over, as a tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def _restored(array, shape, axis):
    """A reduced array with its lost axes back as 1s, so that it broadcasts against the input."""
    return array.reshape([1 if i in axis else n for i, n in enumerate(shape)])


def _count(shape, axis):
    n = 1
    for i in axis:
        n *= shape[i]
    return n


def sum(x, axis=None, keepdims=False):
    """Sum over `axis`."""
    axis = _normalised(axis, x.ndim)
    return record(x.data.sum(axis=axis, keepdims=keepdims), (x,), sum_backward, x_shape=x.shape, axis=axis)


def sum_backward(dout, x_shape, axis):
    return np.broadcast_to(_restored(dout, x_shape, axis), x_shape)


def mean(x, axis=None, keepdims=False):
    """Mean over `axis`."""
    axis = _normalised(axis, x.ndim)
    return record(x.data.mean(axis=axis, keepdims=keepdims), (x,), mean_backward, x_shape=x.shape, axis=axis)


def mean_backward(dout, x_shape, axis):
    return np.broadcast_to(_restored(dout / _count(x_shape, axis), x_shape, axis), x_shape)


def var(x, axis=None, keepdims=False, correction=0):
    """Variance over `axis`, divided by n - correction (0 as in NumPy; PyTorch's default is 1)."""
    axis = _normalised(axis, x.ndim)
    out = x.data.var(axis=axis, keepdims=keepdims, ddof=correction)
    return record(out, (x,), var_backward, x=x.data, axis=axis, correction=correction)


def var_backward(dout, x, axis, correction):
    # the mean moves with x too, but sum(x - mean) = 0 makes that part vanish
    centred = x - x.mean(axis=axis, keepdims=True)
    return _restored(dout, x.shape, axis) * centred * (2.0 / (_count(x.shape, axis) - correction))


def max(x, axis=None, keepdims=False):
    """Largest element over `axis`; equal ones share the gradient."""
    axis = _normalised(axis, x.ndim)
    out = x.data.max(axis=axis, keepdims=keepdims)
    return record(out, (x,), max_backward, x=x.data, out=out, axis=axis)


def max_backward(dout, x, out, axis):
    chosen = (x == _restored(out, x.shape, axis)).astype(x.dtype)
    return _restored(dout, x.shape, axis) * chosen / chosen.sum(axis=axis, keepdims=True)


def min(x, axis=None, keepdims=False):
    """Smallest element over `axis`; equal ones share the gradient."""
    axis = _normalised(axis, x.ndim)
    out = x.data.min(axis=axis, keepdims=keepdims)
    return record(out, (x,), min_backward, x=x.data, out=out, axis=axis)


def min_backward(dout, x, out, axis):
    return max_backward(dout, x, out, axis)  # chooses by equality with `out`, whichever end that is
