"""The GradientArena, which may hold an optimizer's parameters and their gradients in flat arrays.

With an arena an optimizer's step is one pass over memory, and backward functions write gradients where the step reads
them. The price: the parameters move into it, so that an array taken from `p.data` before is no longer the weight, and
`p.grad` is a view that the backward of the next step overwrites: keep `p.grad.copy()`.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from kernels.arrays import CACHE_LINE, Array, empty
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.nn import Module
from minigrad.optim.optimizer import gradient_of
from minigrad.optim.param_groups import Params, as_groups, named_parameters

Named: TypeAlias = tuple[str, Tensor]


class GradientArena:
    """The flat arrays of some parameters; the Trainer makes one and hands it to AdamW, which moves the parameters in.

    params: a Module, or what an optimizer takes: Parameters, (name, Parameter) pairs or groups. Its order is the order
    in memory. Parameters that decay alike should be neighbours, as in `optim.decay_groups`.

    `Parameter.data` and `.grad` become views: indexing, printing, `load_state_dict` work as before. Parameters that
    share one `.data` go on sharing it: the first has a place here, and the others are left to the optimizer, as are all
    whose `.data` are different views of one memory. A `.data` or `.grad` that was set to another array is copied back
    in before the next step.
    """

    def __init__(self, params: Params | Module) -> None:
        if isinstance(params, Module):
            params = list(params.named_parameters())
        self._lay_out(
            [pair for i, group in enumerate(as_groups(params)) for pair in named_parameters(group, i).items()]
        )

    def _lay_out(self, named: Sequence[Named]) -> None:
        self._named = named
        tied: dict[int, list[Named]] = {}  # id of a .data -> the parameters that share it
        arrays = {id(param.data): param.data for _, param in named}
        for name, param in named:
            if not any(share_memory(param.data, other) for other in arrays.values() if other is not param.data):
                tied.setdefault(id(param.data), []).append((name, param))
        dtypes = sorted({param.dtype for (_, param), *_ in tied.values()}, key=str)
        self.flats = [Flat([each for each in tied.values() if each[0][1].dtype == dtype]) for dtype in dtypes]

    def gather(self) -> "GradientArena":
        """Move the parameters in, or those whose `.data` or `.grad` is another array by now. Returns the arena."""
        for flat in self.flats:
            for segment in flat.segments:
                segment.gather()
        return self

    def __getstate__(self) -> Sequence[Named]:
        return self._named  # copy and pickle: the copy is laid out anew, around the copied parameters

    def __setstate__(self, named: Sequence[Named]) -> None:
        self._lay_out(named)


class Flat:
    """Parameters of one dtype in flat arrays `data` and `grad`; each begins a cache line, with zeros in between.

    segments: the places, in order.
    """

    def __init__(self, tied: Sequence[Sequence[Named]]) -> None:
        like = tied[0][0][1].data
        spans: list[slice] = []
        stop = 0
        for (_, param), *_ in tied:
            start = stop + -stop % (CACHE_LINE // like.dtype.itemsize)
            stop = start + param.size
            spans.append(slice(start, stop))
        self.data, self.grad = (zeros(stop, like) for _ in range(2))
        self.segments = [Segment(*each, span=span, flat=self) for each, span in zip(tied, spans, strict=True)]


class Segment:
    """One parameter's place in a `Flat`: `span` of its arrays, and views of the parameter's shape."""

    __slots__ = ("name", "param", "tied", "span", "data", "grad", "is_used")

    def __init__(self, named: Named, *tied: Named, span: slice, flat: Flat) -> None:
        (self.name, self.param), self.span = named, span
        self.tied = [param for _, param in tied]  # parameters that share its data, each with a gradient of its own
        self.is_used = False  # whether the parameter has been here, so that graphs may have saved the memory
        shape = self.param.shape
        self.data, self.grad = flat.data[span].reshape(shape), flat.grad[span].reshape(shape)

    def gather(self) -> bool:
        """Copy `.data` and `.grad` in if they are other arrays. Returns whether there is a gradient."""
        param = self.param
        if param.data is not self.data:
            if param.data.shape != self.data.shape or param.data.dtype != self.data.dtype:
                raise ValueError(
                    f"{self.name} is now {param.data.shape} {param.data.dtype}, but the optimizer was made for "
                    f"{self.data.shape} {self.data.dtype}; make a new optimizer after changing parameters"
                )
            if share_memory(param.data, self.data.base) and not share_memory(param.data, self.data):
                raise ValueError(
                    f"the data of {self.name} has been a part of another parameter's since the arena was made; to tie "
                    "parameters, make a new arena and a new optimizer afterwards"
                )
            if self.is_used:
                graph.mark_written(self.data)
            self.data[...] = param.data
            for other in self.tied:
                if other.data is param.data:
                    other.data = self.data
            param.data, self.is_used = self.data, True
        if param.grad is not None and param.grad is not self.grad:
            grad = gradient_of(self.name, param)
            assert grad is not None
            graph.mark_written(self.grad)  # a forward pass may have formed a gradient here for a backward to come
            self.grad[...] = grad
            param.grad = self.grad
        if param.grad_buffer is not self.grad:
            param.grad_buffer, param._pending = self.grad, None
        return param.grad is not None


def share_memory(a: Array | None, b: Array | None) -> bool:
    """Whether two arrays of the host may show the same memory; of a device's arrays that is not known: False."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)


def zeros(n: int, like: Array) -> Array:
    """Zeros (n,) with the dtype of the array `like` and where that is; they begin a cache line."""
    array = empty((n,), like.dtype, like)
    array[...] = 0
    return array
