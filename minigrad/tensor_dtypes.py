"""The methods of Tensor that convert to another dtype, by PyTorch's names. Gradients flow between floats.

They have a class of their own: where a method is called `bool`, the hint `bool` would mean the method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from minigrad.tensor_methods import Methods
from minigrad.tensor_protocols import Protocols

if TYPE_CHECKING:
    from minigrad._tensor import Tensor


class Conversions(Methods):
    """A base of Tensor."""

    __slots__ = ()

    def to(self, dtype: npt.DTypeLike | Tensor) -> Tensor:
        """In another dtype, that of a tensor for instance; None: in its own. The array stays on its device."""
        try:
            wanted = self.dtype if dtype is None else dtype.dtype if isinstance(dtype, Protocols) else np.dtype(dtype)
        except TypeError:
            raise TypeError(
                f"to takes a dtype, not {dtype!r}; a tensor is where its array is, as in Tensor(cupy.asarray(x.data))"
            ) from None
        return self.astype(wanted)

    def type(self, dtype: npt.DTypeLike) -> Tensor:
        """In another dtype."""
        return self.astype(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """In the dtype of another tensor."""
        return self.astype(other.dtype)

    def half(self) -> Tensor:
        """In float16."""
        return self.astype(np.float16)

    def float(self) -> Tensor:
        """In float32."""
        return self.astype(np.float32)

    def double(self) -> Tensor:
        """In float64."""
        return self.astype(np.float64)

    def int(self) -> Tensor:
        """In int32."""
        return self.astype(np.int32)

    def long(self) -> Tensor:
        """In int64."""
        return self.astype(np.int64)

    def bool(self) -> Tensor:
        """In booleans: where an element is not 0."""
        return self.astype(np.bool)
