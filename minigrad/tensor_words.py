"""What makes a Tensor a sequence, and short words that say other methods: x.T is x.transpose()."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minigrad.tensor_methods import Methods
from minigrad.tensor_protocols import Protocols

if TYPE_CHECKING:
    from minigrad._tensor import Tensor


class Words(Protocols, Methods):
    """A base of Tensor."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("a tensor without axes has no elements to go through; x.item() is its number")
        tensor: Any = self
        return (tensor[i] for i in range(len(self)))

    def __contains__(self, element: object) -> bool:
        same: Any = self == element
        if isinstance(same, bool):  # compared as two objects
            raise TypeError(f"a tensor holds numbers, and {element!r} is none")
        return bool(same.any())

    def _takes(self, value: object) -> bool:
        """Whether `value * self` multiplies numbers; in [1] * tensor(2) Python repeats a list."""
        return not isinstance(value, (list, tuple)) or self.ndim > 0 or self.dtype.kind not in "iu"

    def contiguous(self) -> Tensor:
        """The tensor itself: operations take any strides."""
        tensor: Any = self
        return tensor

    @property
    def T(self) -> Tensor:
        """All axes reversed, as in NumPy."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: a matrix, or each of a stack, transposed."""
        return self.swapaxes(-2, -1)

    def t(self) -> Tensor:
        """A matrix transposed; a vector as it is."""
        if self.ndim > 2:
            raise RuntimeError(f"t() takes a matrix, this tensor has {self.ndim} axes; say x.mT or x.swapaxes(i, j)")
        return self.transpose()
