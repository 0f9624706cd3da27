"""Tensor: a plain array, its gradient, and the node that made it. Every operator is one line."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels.arrays import as_array, empty, is_array, on_host
from minigrad import dtypes, graph
from minigrad.argument_types import Array, DType, Hook, TensorLike
from minigrad.hooks import RemovableHandle
from minigrad.in_place import InPlace
from minigrad.tensor_dtypes import Conversions
from minigrad.tensor_methods import Methods
from minigrad.tensor_words import Words


class Tensor(graph.GradSlot, Words, InPlace, Conversions):
    """An array, NumPy's or a device's, that remembers how it was made.

    data           the array itself
    grad           the gradient after `backward`, an array like data; leaves only. The next backward puts a new array
                   here and leaves this one as it is, unless grad is a view of an `optim.GradientArena`, as in the
                   Trainer: keep a copy there. Only `optim.clip_grad_norm_` changes an array in place
    requires_grad  whether it needs a gradient; true for everything made from such tensors
    node           the graph.Node that made it; None for a leaf
    recompute      a graph.Recompute of data, if that costs so little that no operation needs to save data; else None
    grad_buffer    the view of a GradientArena that this leaf's gradient is summed in; None without an arena

    Python's floats and lists of them become float32; arrays and NumPy's scalars keep their dtype. `dtypes` says what is
    refused. The array is not copied; `minigrad.tensor` copies it, as PyTorch's does. PyTorch's class Tensor takes a
    shape, or makes all numbers float32; this one takes numbers, as `tensor` does.
    """

    __slots__ = ("data", "_requires_grad", "node", "recompute", "grad_buffer", "_pending", "__weakref__")

    _requires_grad: bool
    _grad: Any = vars(graph.GradSlot)["grad"]  # the slot of `grad`, to write to without a check
    node: graph.Node | None
    recompute: graph.Recompute | None
    grad_buffer: Array | None
    _pending: weakref.ref[Array] | None

    def __init__(self, data: TensorLike, requires_grad: bool = False, dtype: DType = None) -> None:
        if isinstance(data, Tensor):
            data = data.data
        array = dtypes.checked(data) if is_array(data) else dtypes.from_python(data, dtype)
        self.data = array if dtype is None else array.astype(dtype, copy=False)
        self._requires_grad = requires_grad is not False and dtypes.needs_gradient(requires_grad, self.data.dtype)
        self._grad = self.node = self.hooks = self.recompute = self.grad_buffer = self._pending = None

    @property
    def is_leaf(self) -> bool:
        """Whether a person made it, and no operation on tensors that need gradients."""
        return self.node is None

    def __repr__(self) -> str:
        made = f", made by {self.node!r}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(on_host(self.data), precision=4, threshold=20)}, {self.dtype}{made})"

    @property
    def requires_grad(self) -> bool:
        """Whether it needs a gradient. A leaf's may be assigned."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        needed = dtypes.needs_gradient(requires_grad, self.data.dtype)
        if self.node is not None and not needed:
            raise RuntimeError("only a leaf can give up its gradient; x.detach() is a tensor without one")
        self._requires_grad = needed

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether this leaf needs a gradient. Returns the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Array | None:
        """The gradient after `backward`. An array or a tensor of this shape may be assigned, or None."""
        return self._grad

    @grad.setter
    def grad(self, grad: Tensor | Array | np.generic | None) -> None:
        if grad is not None:
            if not (isinstance(grad, (Tensor, np.generic)) or is_array(grad)):
                raise TypeError(f"the gradient is a {type(grad).__name__}; expected an array, a tensor or None")
            grad = self._as_gradient(grad)
        self._grad = grad

    def detach(self) -> Tensor:
        """The same array, cut off from the graph."""
        return Tensor(self.data)

    def where(self, condition: TensorLike, other: TensorLike) -> Tensor:
        """This tensor where condition holds, else `other`."""
        return F.where(condition, self, other)

    def equal(self, other: TensorLike) -> bool:
        """Whether shapes and all elements are the same: `array_equal`, PyTorch's equal."""
        return F.array_equal(self, other)

    def cpu(self) -> Tensor:
        """On the host: the tensor itself, or a copy of a device's array, which no gradient passes."""
        if type(self.data) is np.ndarray:
            return self
        self._refuse_to_lose_a_gradient("x.detach().cpu()")
        return Tensor(on_host(self.data))

    # ---------------------------------------------------------------------------------- gradients

    def backward(
        self,
        gradient: TensorLike | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: object = None,
        *,
        grad: TensorLike | None = None,
    ) -> None:
        """Gradients of this tensor for all leaves it came from, added into their `.grad`.

        gradient      the gradient of this tensor itself, an array of its shape; may be left out for one element. `grad`
                      is another name of it
        retain_graph  keep what is saved, for a second backward
        create_graph, inputs  of PyTorch, refused unless they are False and None
        """
        if create_graph:
            raise TypeError("backward: create_graph=True asks for gradients of gradients; there are first ones only")
        if inputs is not None:
            raise TypeError("backward has no inputs=; say requires_grad_(False) to the leaves that need no gradient")
        if gradient is not None and grad is not None:
            raise TypeError("backward: give gradient or grad, not both")
        dout = self.upstream(grad if gradient is None else gradient)
        if self.node is None:
            self.accumulate(dout)
        else:
            graph.backward(self.node, dout, bool(retain_graph))

    def upstream(self, grad: TensorLike | None = None) -> Array:
        """The array that a backward from here begins with: `grad`, checked, or 1 for a tensor of one element."""
        if not self._requires_grad:
            raise RuntimeError("nothing to differentiate: no input of this tensor has requires_grad=True")
        if grad is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward of a tensor of shape {self.shape} needs the gradient, x.backward(gradient)"
                )
            grad = np.ones_like(self.data)
        return self._as_gradient(grad)

    def _as_gradient(self, grad: TensorLike) -> Array:
        """`grad` as an array of the tensor's dtype, where its array is. ValueError if the shape is another."""
        array = grad.data if isinstance(grad, Tensor) else grad
        if type(array) is not type(self.data) or array.dtype != self.data.dtype:
            array = np.asarray(array, dtype=self.dtype, like=self.data)
        if array.shape != self.shape:
            raise ValueError(f"grad has shape {array.shape}; the tensor has {self.shape}")
        return array

    def accumulate(self, grad: Array, totals: dict[Tensor, Array] | None = None) -> None:
        """Add an array to this leaf's `.grad`; the engine calls it once per use of the leaf.

        A leaf with hooks is added to `totals` instead, where a pass gives it, and then once more by its whole gradient.
        The result, whose array is new unless it is said to be another:

            .grad is      grad came from output(), sum_buffer()    grad is any other array
            None          grad itself, or grad_buffer around it    a copy, in grad_buffer if that is free
            grad_buffer   (does not happen)                        grad_buffer, to which grad is added
            another       the sum                                  the sum
        """
        if not self._requires_grad:  # since the forward pass
            return
        if self.hooks:
            if totals is not None:
                totals[self] = as_array(totals[self] + grad) if self in totals else grad
                return
            grad = graph.run_hooks(self.hooks, grad.copy())
        with graph.accumulating:
            pending, buffer = self._pending_output(), self.grad_buffer
            if grad is pending:
                self._pending = None
            if self._grad is None and grad is pending:
                self._grad = grad if buffer is None else buffer
            elif self._grad is None and buffer is not None and pending is None:
                buffer[...] = grad
                self._grad = buffer
            elif self._grad is None:
                self._grad = grad.copy()
            elif self.grad is self.grad_buffer:
                self.grad += grad
            else:
                self._grad = as_array(self._grad + grad)

    def output(self) -> Array | None:
        """See `graph.GradSlot`. While the array exists, other contributions are summed elsewhere."""
        with graph.accumulating:
            return None if self._grad is not None or self._is_occupied() else self._new_output()

    def sum_buffer(self) -> Array | None:
        """See `graph.GradSlot`. Until the array comes back to `accumulate`, `.grad` is None."""
        with graph.accumulating:
            if self._is_occupied() or (self._grad is not None and self._grad is not self.grad_buffer):
                return None  # a gradient outside of an arena may be a person's, and is not changed
            array, is_first, self._grad = self._new_output(), self._grad is None, None
            if is_first:
                array[...] = 0
            return array

    def take_sum(self) -> None:
        """Nothing: a leaf's gradient stays where a person sees it."""
        return None

    def _new_output(self) -> Array:
        """An array for a gradient: a view of grad_buffer, or memory of its own."""
        array = empty(self.shape, self.dtype, self.data) if self.grad_buffer is None else self.grad_buffer[...]
        self._pending = weakref.ref(array)
        return array

    def _pending_output(self) -> Array | None:
        """The array that `_new_output` made last, if it exists and has not come back to `accumulate`."""
        return None if self._pending is None else self._pending()

    def _is_occupied(self) -> bool:
        return bool(self.hooks) or not self._requires_grad or self._pending_output() is not None

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def __getstate__(self) -> tuple[Array, bool, Array | None]:
        """For copy and pickle: a leaf's arrays. The copy belongs to no arena and has no hooks."""
        if self.node is not None:
            raise RuntimeError("only leaf tensors can be copied or pickled; use .detach() for a tensor of a graph")
        return self.data, self._requires_grad, self._grad

    def __setstate__(self, state: tuple[Array, bool, Array | None]) -> None:
        self.data, self._requires_grad, self._grad = state
        self.node = self.hooks = self.recompute = self.grad_buffer = self._pending = None

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call hook(grad) once in each backward, with all contributions to this tensor's gradient in grad, an array.

        What it returns, if anything, takes the gradient's place. A leaf's hooks run at the end of the backward, and do
        not see what `.grad` held before. Returns a handle: `handle.remove()`, or calling it, removes the hook.
        """
        if not self.requires_grad:
            raise RuntimeError("a hook needs a tensor with requires_grad=True")
        if not callable(hook):
            raise TypeError(f"the hook is a {type(hook).__name__}; expected a function of the gradient")
        owner = self if self.node is None else self.node
        owner.hooks = owner.hooks or []
        return RemovableHandle(owner.hooks, hook)

    # ---------------------------------------------------------------------------------- operators

    # fmt: off
    def __add__(self, other: TensorLike) -> Tensor: return F.add(self, other)
    def __radd__(self, other: TensorLike) -> Tensor: return F.add(other, self)
    def __sub__(self, other: TensorLike) -> Tensor: return F.sub(self, other)
    def __rsub__(self, other: TensorLike) -> Tensor: return F.sub(other, self)
    def __mul__(self, other: TensorLike) -> Tensor: return F.mul(self, other)
    def __rmul__(self, other: TensorLike) -> Tensor: return F.mul(other, self) if self._takes(other) else NotImplemented
    def __truediv__(self, other: TensorLike) -> Tensor: return F.div(self, other)
    def __rtruediv__(self, other: TensorLike) -> Tensor: return F.div(other, self)
    def __pow__(self, other: TensorLike) -> Tensor: return F.pow(self, other)
    def __rpow__(self, other: TensorLike) -> Tensor: return F.pow(other, self)
    def __matmul__(self, other: TensorLike) -> Tensor: return F.matmul(self, other)
    def __rmatmul__(self, other: TensorLike) -> Tensor: return F.matmul(other, self)
    def __neg__(self) -> Tensor: return F.neg(self)
    def __abs__(self) -> Tensor: return F.abs(self)
    def __getitem__(self, index: Any) -> Tensor: return F.getitem(self, index)
    def __pos__(self) -> Tensor: return self
    def __floordiv__(self, other: TensorLike) -> Tensor: return F.floor_divide(self, other)
    def __rfloordiv__(self, other: TensorLike) -> Tensor: return F.floor_divide(other, self)
    def __mod__(self, other: TensorLike) -> Tensor: return F.remainder(self, other)
    def __rmod__(self, other: TensorLike) -> Tensor: return F.remainder(other, self)
    def __and__(self, other: TensorLike) -> Tensor: return F.bitwise_and(self, other)
    def __rand__(self, other: TensorLike) -> Tensor: return F.bitwise_and(other, self)
    def __or__(self, other: TensorLike) -> Tensor: return F.bitwise_or(self, other)
    def __ror__(self, other: TensorLike) -> Tensor: return F.bitwise_or(other, self)
    def __xor__(self, other: TensorLike) -> Tensor: return F.bitwise_xor(self, other)
    def __rxor__(self, other: TensorLike) -> Tensor: return F.bitwise_xor(other, self)
    def __invert__(self) -> Tensor: return F.bitwise_not(self)
    def __eq__(self, other: Any) -> Any: return F.eq(self, other) if _is_number_like(other) else NotImplemented
    def __ne__(self, other: Any) -> Any: return F.ne(self, other) if _is_number_like(other) else NotImplemented
    def __lt__(self, other: Any) -> Any: return F.lt(self, other) if _is_number_like(other) else NotImplemented
    def __le__(self, other: Any) -> Any: return F.le(self, other) if _is_number_like(other) else NotImplemented
    def __gt__(self, other: Any) -> Any: return F.gt(self, other) if _is_number_like(other) else NotImplemented
    def __ge__(self, other: Any) -> Any: return F.ge(self, other) if _is_number_like(other) else NotImplemented
    # fmt: on

    __hash__ = object.__hash__  # a tensor is a key of its own, although == compares elements


def _is_number_like(value: object) -> bool:
    """Whether == compares elements; beside anything else, None for instance, a tensor is just another object."""
    return isinstance(value, (Tensor, int, float, list, tuple, np.generic)) or is_array(value)


def as_tensor(value: TensorLike, dtype: DType = None, like: Array | None = None) -> Tensor:
    """`value` as a Tensor; what is no array yet has that dtype, and lies where the array `like` does."""
    if isinstance(value, Tensor):
        return value
    if like is not None and not is_array(value):
        value = np.asarray(value, dtype=dtype, like=like)
    return Tensor(value, dtype=dtype)


def constant(value: float, like: Array) -> Tensor:
    """A number as a Tensor without axes, of the dtype of the array `like` and where that is."""
    if type(like) is np.ndarray:
        return Tensor(np.array(value, like.dtype))
    if isinstance(like, Tensor):
        raise _no_array(like)
    return Tensor(np.asarray(value, like.dtype, like=like))


def _no_array(data: Tensor) -> TypeError:
    return TypeError(f"x.data is a Tensor of shape {data.shape}; it must be an array, as in x.data = y.data")


def record(out: Array, parents: Sequence[Tensor], backward: Callable[..., Any], /, **saved: Any) -> Tensor:
    """The Tensor of an operation's result.

    out       the array computed from the parents' data
    parents   the Tensors it was computed from
    backward  the backward function, of a module: backward(dout, **saved) -> one gradient per parent
    saved     what the backward function needs, by name: raw arrays and settings, never a Tensor
    """
    if type(out) is not np.ndarray and not is_array(out):  # the first test is the cheaper one
        if isinstance(out, Tensor):
            raise _no_array(out)
        out = np.asarray(out)
    result = Tensor.__new__(Tensor)
    result.data = out
    result._grad = result.hooks = result.grad_buffer = result._pending = result.recompute = None
    result.node = graph.record(out, parents, backward, saved)
    result._requires_grad = result.node is not None
    if result.node is not None and graph.thread.record_calls is not None:
        result.node.call = graph.thread.record_calls(sys._getframe(1), out)
    return result


from minigrad import functional as F  # at the end: the functions need Tensor and record

for _name in vars(Methods):
    if not _name.startswith("_"):
        setattr(Tensor, _name, getattr(F, _name))
