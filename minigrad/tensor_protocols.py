"""What makes a Tensor a number, a sequence and an array, for Python's and NumPy's functions. No gradients here."""

import operator

import numpy as np

from minigrad import graph


class _Size(int):
    """The number of elements, as NumPy's `x.size`; called, the shape or a part of it, as PyTorch's `x.size(0)`."""

    def __call__(self, dim=None):
        return self.shape if dim is None else self.shape[dim]


class Protocols:
    """The base of Tensor that uses nothing but its `data` and `requires_grad`."""

    __slots__ = ()
    __array_priority__ = 1000  # so that ndarray + Tensor comes to the Tensor
    __array_ufunc__ = None

    @property
    def size(self):
        """`x.size`, the number of elements as in NumPy; `x.size()` and `x.size(dim)`, the shape as in PyTorch."""
        size = _Size(self.data.size)
        size.shape = self.shape
        return size

    def __len__(self):
        return len(self.data)

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype.kind == "f" or self.data.size != 1:
            raise TypeError(f"only a tensor of one integer can be an index, not one of {self.shape} {self.dtype}")
        return operator.index(self.item())

    def __format__(self, spec):
        """f"{loss:.4f}": a tensor without axes is written like its number."""
        if self.ndim and spec:
            raise TypeError(f"the format {spec!r} needs a tensor without axes; this one has shape {self.shape}")
        return str(self) if self.ndim else format(self.item(), spec)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, element):
        return bool((self == element).any())

    def __array__(self, dtype=None, copy=None):
        """For NumPy's functions. The result knows of no graph, so a tensor that needs a gradient is refused."""
        if self.requires_grad and graph.thread.recording:
            raise RuntimeError("an array has no gradient; say x.detach(), or use minigrad's functions")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __setitem__(self, index, value):
        raise TypeError("a tensor is not changed in place; say x = mg.where(mask, value, x)")

    def numpy(self):
        """The array itself, not a copy."""
        return self.data

    def item(self):
        """The only element as a Python number."""
        return self.data.item()

    def tolist(self):
        """The elements as Python numbers, in nested lists."""
        return self.data.tolist()

    def numel(self):
        """The number of elements."""
        return self.data.size

    def dim(self):
        """The number of axes."""
        return self.data.ndim

    def is_floating_point(self):
        """Whether it holds floats, and so can have a gradient."""
        return self.dtype.kind == "f"
