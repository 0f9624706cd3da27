"""x += v and x[i] = v: they change the array of x itself, as in PyTorch; views of x see it, dtype and shape stay.

Arrays through which a gradient flows never change. There `x += v` gives x, the same Tensor, the new array and node of
x + v, which is the same to whoever holds x. It is refused if anything else holds the array: a view of x, which would
have to change too, or an operation that saved it, of which PyTorch refuses the backward. x[i] = v is always refused.
Inside of no_grad both work, and a backward that needs the old contents raises RuntimeError.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from kernels.arrays import is_array
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
        """Put the operator's result into the tensor, and return that.

        RuntimeError for a leaf that needs a gradient, and for an array in a graph that something else holds. TypeError
        if the dtype is of a lower kind than the result's: integers take no floats, booleans no integers. ValueError if
        the tensor would grow, or if its array is read-only.
        """
        held = _is_held_elsewhere(self)  # asked before the operator saves the array
        result = operate(self, other)
        statement, instead = f"x {sign}= v", f"x = x {sign} v"
        if dtypes.is_higher_kind(result.dtype, self.data.dtype):
            raise TypeError(f"{statement} gives {result.dtype}, and x holds {self.data.dtype}; say {instead}")
        if result.shape != self.data.shape:
            raise ValueError(f"{statement} gives shape {result.shape}, and x has {self.data.shape}; say {instead}")
        if not self._is_recorded(result):
            self._write(..., result.data)
            return self
        self._refuse_leaf(statement, instead)
        if held:
            raise RuntimeError(
                f"{statement} would change an array in a graph that a view of x, an operation or a variable holds too; "
                f"say {instead}"
            )
        _become(self, result.astype(self.data.dtype))
        return self

    def __setitem__(self, index: Any, value: TensorLike) -> None:
        """x[index] = value, which is converted to the dtype of x. Errors as of `+=`, and IndexError as of x[index]."""
        from minigrad.ops.indexing import as_tensor, raw_index  # not above: they need Tensor

        if not (hasattr(value, "node") or is_array(value)):
            value = np.asarray(dtypes.from_python(value, self.data.dtype), like=self.data)
        value = as_tensor(value)
        if value.size == 1:
            value = value.reshape(())  # into one element, as PyTorch takes it
        if self._is_recorded(value):
            statement, instead = "x[i] = v", "x = mg.where(mask, v, x)"
            self._refuse_leaf(statement, instead)
            raise RuntimeError(
                f"{statement} would change an array in a graph, through which gradients flow; say {instead}"
            )
        self._write(raw_index(index, self), value.data)

    def _is_recorded(self, value: Any) -> bool:
        return graph.thread.recording and (self.requires_grad or value.requires_grad)

    def _refuse_leaf(self, statement: str, instead: str) -> None:
        if self.requires_grad and self.node is None:
            raise RuntimeError(
                f"{statement} would change a leaf that needs a gradient; do it inside of no_grad, or say {instead}"
            )

    def _write(self, index: Any, value: Array) -> None:
        if isinstance(self.data, np.ndarray) and not self.data.flags.writeable:
            raise ValueError(
                "x is read-only: its array is one of yours that is, a diagonal, or repeats elements; change x.clone()"
            )
        self.data[index] = value
        graph.mark_written(self.data)


def _become(x: Any, result: Any) -> None:
    """Give the Tensor x the array and the node of another one."""
    x.data, x.node, x.recompute, x._requires_grad = result.data, result.node, result.recompute, result._requires_grad


def _references(holder: Any, name: str) -> int:
    return sys.getrefcount(getattr(holder, name))


_ALONE = _references(SimpleNamespace(data=np.empty(0)), "data")


def _is_held_elsewhere(x: InPlace) -> bool:
    """Whether something besides x refers to its array, or to the array that this is a view of."""
    is_view = x.data.base is not None
    return _references(x, "data") > _ALONE or (is_view and _references(x.data, "base") > _ALONE)
