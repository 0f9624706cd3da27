"""What makes a Tensor a number and an array, for Python's and NumPy's functions. No gradients here."""

from __future__ import annotations

from typing import Any, ClassVar, overload

import numpy as np

from minigrad import graph
from minigrad.argument_types import Array, DType, Shape


class _Size(int):
    """The number of elements, as NumPy's `x.size`; called, the shape or a part of it, as PyTorch's `x.size(0)`."""

    shape: Shape

    @overload
    def __call__(self) -> Shape: ...
    @overload
    def __call__(self, dim: int) -> int: ...
    def __call__(self, dim: int | None = None) -> Shape | int:
        if dim is not None and not -len(self.shape) <= dim < len(self.shape):
            raise IndexError(f"x.size({dim}): the tensor has {len(self.shape)} axes")
        return self.shape if dim is None else self.shape[dim]


def _apply_ufunc(tensor: Any, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
    """np.exp(x) and array + x: minigrad's function of that name. TypeError in what NumPy alone can do."""
    from minigrad import functional  # not above: it needs Tensor

    name = ufunc.__name__
    if keywords.get("out") is not None:
        raise TypeError("NumPy writes no tensor into an array; say array += x.detach().numpy(), or array = array + x")
    function = getattr(functional, "eq" if name == "equal" else name, None)
    if function is None or keywords or method != "__call__":
        call = name if method == "__call__" else f"{name}.{method}"
        hint = f"mg.{name}(x) or " if function and method == "__call__" else ""
        raise TypeError(f"np.{call} takes no tensor in this way; say {hint}np.{call}(x.detach().numpy())")
    return function(*inputs)


class _OfTheClass:
    """An attribute of a class that its instances do not show."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return self.value if instance is None else None


class Protocols:
    """The base of Tensor that uses nothing but its `data` and `requires_grad`."""

    __slots__ = ()
    __array_priority__ = 1000  # so that ndarray + Tensor comes to the Tensor
    # NumPy asks the class; CuPy asks the tensor and, by None, leaves array + x to Tensor.__radd__
    __array_ufunc__: ClassVar[Any] = _OfTheClass(_apply_ufunc)
    data: Array
    requires_grad: bool

    @property
    def shape(self) -> Shape:
        """The number of elements along each axis."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> _Size:
        """`x.size`, the number of elements as in NumPy; `x.size()` and `x.size(dim)`, the shape as in PyTorch."""
        size = _Size(self.data.size)
        size.shape = self.shape
        return size

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind == "f" or self.data.size != 1:
            raise TypeError(f"only a tensor of one integer can be an index, not one of {self.shape} {self.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """f"{loss:.4f}": a tensor without axes is written like its number."""
        if self.ndim and spec:
            raise TypeError(f"the format {spec!r} needs a tensor without axes; this one has shape {self.shape}")
        return str(self) if self.ndim else format(self.item(), spec)

    def __array__(self, dtype: DType = None, copy: bool | None = None) -> Array:
        """For NumPy's functions. The result knows of no graph, so a tensor that needs a gradient is refused."""
        self._refuse_to_lose_a_gradient("x.detach(), or use minigrad's functions")
        return np.array(self.data, dtype=dtype, copy=copy)

    def numpy(self) -> Array:
        """The array itself, not a copy. RuntimeError for a tensor that needs a gradient, as in PyTorch."""
        self._refuse_to_lose_a_gradient("x.detach().numpy()")
        return self.data

    def _refuse_to_lose_a_gradient(self, instead: str) -> None:
        if self.requires_grad and graph.thread.recording:
            raise RuntimeError(f"an array has no gradient; say {instead}")

    def item(self) -> int | float | bool:
        """The only element as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """The elements as Python numbers, in nested lists."""
        return self.data.tolist()

    def numel(self) -> int:
        """The number of elements."""
        return self.data.size

    def dim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    def is_floating_point(self) -> bool:
        """Whether it holds floats, and so can have a gradient."""
        return self.dtype.kind == "f"
