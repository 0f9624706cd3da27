"""Operations that move elements and never change them. Results are views where NumPy makes views."""

import builtins
import itertools

import numpy as np

from kernels.arrays import is_array
from minigrad._tensor import as_tensor, record
from minigrad.ops.elementwise import astype


def reshape(x, *shape):
    """The same elements in another shape, given as one tuple or as several ints; -1 is worked out."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return record(x.data.reshape(shape), (x,), reshape_backward, x_shape=x.shape)


def reshape_backward(dout, x_shape):
    return dout.reshape(x_shape)


def transpose(x, *axes):
    """Reorder the axes, as in NumPy: all reversed without `axes`, else a permutation.

    Two ints on a tensor of more than two axes swap these, as in PyTorch. (On two axes that would mean
    different things in the two libraries, and raises ValueError: say swapaxes or permute.)
    """
    if len(axes) == 1 and not isinstance(axes[0], int):
        axes = axes[0]
    if not axes:
        axes = range(x.ndim)[::-1]
    elif len(axes) == 2 and x.ndim > 2:
        return swapaxes(x, *axes)
    elif len(axes) == 2 and isinstance(axes, tuple) and axes == (0, 1):
        raise ValueError("transpose(0, 1) of a matrix swaps in PyTorch but not in NumPy; say swapaxes(0, 1)")
    return permute(x, axes)


def permute(x, axes):
    """Reorder the axes by a full permutation: axis i of the result is axis axes[i] of x."""
    out = x.data.transpose(axes)  # raises ValueError unless each axis is named once
    return record(out, (x,), transpose_backward, axes=tuple(axis % x.ndim for axis in axes))


def transpose_backward(dout, axes):
    return dout.transpose(np.argsort(axes))


def swapaxes(x, axis1, axis2):
    """Exchange two axes."""
    return record(x.data.swapaxes(axis1, axis2), (x,), swapaxes_backward, axis1=axis1, axis2=axis2)


def swapaxes_backward(dout, axis1, axis2):
    return dout.swapaxes(axis1, axis2)


def expand_dims(x, axis):
    """Insert axes of length 1 at `axis`, an int or a tuple."""
    return record(np.expand_dims(x.data, axis), (x,), expand_dims_backward, x_shape=x.shape)


def expand_dims_backward(dout, x_shape):
    return dout.reshape(x_shape)


def squeeze(x, axis=None):
    """Remove axes of length 1: all of them, or those named."""
    return record(x.data.squeeze(axis), (x,), squeeze_backward, x_shape=x.shape)


def squeeze_backward(dout, x_shape):
    return dout.reshape(x_shape)


def broadcast_to(x, shape):
    """Repeat along new axes and axes of length 1 until the shape is `shape`."""
    return record(np.broadcast_to(x.data, shape), (x,), broadcast_to_backward, x_shape=x.shape)


def broadcast_to_backward(dout, x_shape):
    added = dout.ndim - len(x_shape)
    stretched = tuple(i + added for i, n in enumerate(x_shape) if n == 1)
    return dout.sum(axis=tuple(range(added)) + stretched).reshape(x_shape)


def concatenate(tensors, axis=0):
    """Join along an axis that exists."""
    tensors = _of_one_dtype(tensors)
    out = np.concatenate([t.data for t in tensors], axis=axis)
    sizes = [t.shape[axis] for t in tensors]
    return record(out, tensors, concatenate_backward, sizes=sizes, axis=axis)


def concatenate_backward(dout, sizes, axis):
    return tuple(np.split(dout, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def stack(tensors, axis=0):
    """Join along a new axis."""
    tensors = _of_one_dtype(tensors)
    return record(np.stack([t.data for t in tensors], axis=axis), tensors, stack_backward, axis=axis)


def stack_backward(dout, axis):
    return tuple(np.moveaxis(dout, axis, 0))


def _of_one_dtype(tensors):
    tensors = [as_tensor(t) for t in tensors]
    common = np.result_type(*(t.dtype for t in tensors))
    return [astype(t, common) for t in tensors]


def split(x, sections, axis=0):
    """A list of parts, as in NumPy: `sections` equal ones, or cut before each index of a list.

    Each part is a `getitem`, whose backward function puts its gradient back in place.
    """
    if isinstance(sections, int):
        if x.shape[axis] % sections:
            raise ValueError(f"an axis of {x.shape[axis]} cannot be split into {sections} equal parts")
        part = x.shape[axis] // sections
        sections = builtins.range(part, x.shape[axis], part)
    cuts = [0, *sections, x.shape[axis]]
    before = (builtins.slice(None),) * (axis % x.ndim)
    return [getitem(x, (*before, builtins.slice(a, b))) for a, b in itertools.pairwise(cuts)]


def getitem(x, index):
    """x[index]: slices, ints, None, Ellipsis, integer or boolean arrays, or a tuple of them."""
    index = tuple(_raw(i, x.data) for i in index) if isinstance(index, tuple) else _raw(index, x.data)
    return record(x.data[index], (x,), getitem_backward, x_shape=x.shape, index=index)


def getitem_backward(dout, x_shape, index):
    dx = np.zeros(x_shape, dtype=dout.dtype, like=dout)
    parts = index if isinstance(index, tuple) else (index,)
    if all(i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice)) for i in parts):
        dx[index] = dout
    else:
        np.add.at(dx, index, dout)  # an element taken twice gets both gradients; dx[index] += would lose one
    return dx


def _raw(index, x):
    """A part of an index as x takes it: arrays lie where x lies."""
    index = index.data if hasattr(index, "node") else index
    return np.asarray(index, like=x) if is_array(index) else index
