"""x += v and x[i] = v: they change the array of x itself, as in PyTorch; views of x see it, dtype and shape stay.

The engine's arrays never change: while gradients are recorded, a tensor that needs one is refused, and so is one that
would come to need one. Inside of no_grad both work, and a backward that needs the old contents raises RuntimeError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from minigrad import dtypes, graph
from minigrad.argument_types import Array, TensorLike


class InPlace:
    """A base of Tensor."""

    __slots__ = ()
    data: Array
    node: graph.Node | None
    requires_grad: bool

    # fmt: off
    def __iadd__(self, other: TensorLike) -> Self: return self._changed("+", operator.add, other)
    def __isub__(self, other: TensorLike) -> Self: return self._changed("-", operator.sub, other)
    def __imul__(self, other: TensorLike) -> Self: return self._changed("*", operator.mul, other)
    def __itruediv__(self, other: TensorLike) -> Self: return self._changed("/", operator.truediv, other)
    def __ifloordiv__(self, other: TensorLike) -> Self: return self._changed("//", operator.floordiv, other)
    def __imod__(self, other: TensorLike) -> Self: return self._changed("%", operator.mod, other)
    def __ipow__(self, other: TensorLike) -> Self: return self._changed("**", operator.pow, other)
    def __iand__(self, other: TensorLike) -> Self: return self._changed("&", operator.and_, other)
    def __ior__(self, other: TensorLike) -> Self: return self._changed("|", operator.or_, other)
    def __ixor__(self, other: TensorLike) -> Self: return self._changed("^", operator.xor, other)
    # fmt: on

    def _changed(self, sign: str, operate: Callable[[Any, Any], Any], other: TensorLike) -> Self:
        """Put the operator's result into the array. Returns the tensor.

        RuntimeError where a gradient is recorded. TypeError if the dtype is of a lower kind than the result's: integers
        take no floats, booleans no integers. ValueError if the tensor would grow, or if its array is read-only.
        """
        result = operate(self, other)
        instead = f"x = x {sign} v"
        self._refuse_recorded(result, f"x {sign}= v", instead)
        if dtypes.is_higher_kind(result.dtype, self.data.dtype):
            raise TypeError(f"x {sign}= v gives {result.dtype}, and x holds {self.data.dtype}; say {instead}")
        if result.shape != self.data.shape:
            raise ValueError(f"x {sign}= v gives shape {result.shape}, and x has {self.data.shape}; say {instead}")
        self._write(..., result.data)
        return self

    def __setitem__(self, index: Any, value: TensorLike) -> None:
        """x[index] = value, which is converted to the dtype of x. Errors as of `+=`, and IndexError as of x[index]."""
        from minigrad.ops.indexing import as_tensor, raw_index  # not above: they need Tensor

        value = as_tensor(value, like=self.data)
        self._refuse_recorded(value, "x[i] = v", "x = mg.where(mask, v, x)")
        self._write(raw_index(index, self), value.data)

    def _refuse_recorded(self, value: Any, statement: str, instead: str) -> None:
        if not graph.thread.recording or not (self.requires_grad or value.requires_grad):
            return
        if self.requires_grad and self.node is None:
            raise RuntimeError(
                f"{statement} would change a leaf that needs a gradient; do it inside of no_grad, or say {instead}"
            )
        raise RuntimeError(f"{statement} would change an array in a graph, through which gradients flow; say {instead}")

    def _write(self, index: Any, value: Array) -> None:
        if isinstance(self.data, np.ndarray) and not self.data.flags.writeable:
            raise ValueError("x is read-only: its array is one of yours that is, or repeats elements; change x.clone()")
        self.data[index] = value
        graph.mark_written(self.data)
