"""Types for hints: what operations take, the engine's, and NumPy's keywords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NewType, TypeAlias, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from kernels.arrays import Array, Shape  # noqa: F401

if TYPE_CHECKING:
    from minigrad._tensor import Tensor
    from minigrad.graph import Node

    #: a Tensor, or what becomes one: an array, a number, nested lists. Operations convert it first
    TensorLike: TypeAlias = Tensor | np.ndarray | np.generic | float | Sequence[Any]
    DType: TypeAlias = npt.DTypeLike | None  # None: that of the input
else:  # help() and the pages of `make docs` show one name instead of five types or twelve
    TensorLike = NewType("TensorLike", object)
    DType = NewType("DType", object)

Ints: TypeAlias = int | Sequence[int]
Axes: TypeAlias = Ints | None  # None: all of them
Function = TypeVar("Function", bound=Callable[..., Any])  # of a decorator that leaves the signature as it is

# the engine's

#: from a node to an input: the node that made it, the leaf itself, or None without a gradient
Edge: TypeAlias = "Node | Tensor | None"
Grads: TypeAlias = tuple[Array | None, ...]  # of a backward function: one gradient for each input
Step: TypeAlias = "tuple[Node, Array, Grads]"  # of backward: a node, its dout, and the gradients of its inputs
Hook: TypeAlias = Callable[[Array], Any]  # hook(grad) returns what takes the gradient's place, or None
#: called with a node and its dout before its backward function, with None for grads, and after it
Observer: TypeAlias = "Callable[[Node, Array, Grads | None], Any]"
CallRecorder: TypeAlias = Callable[[FrameType, Array], Any]  # an operation's frame and result -> its Node.call

# NumPy's keywords of a function, for `**numpy: Unpack[Axis]`; minigrad.keywords says how they are taken


class Axis(TypedDict, total=False):
    axis: Axes


class OneAxis(TypedDict, total=False):
    axis: int


class OneAxisKeepdims(TypedDict, total=False):
    axis: int | None
    keepdims: bool


class AxisOrNone(TypedDict, total=False):
    axis: int | None  # None: of all elements in one row


class AxisPair(TypedDict, total=False):
    axis1: int
    axis2: int


class AxisKeepdims(TypedDict, total=False):
    axis: Axes
    keepdims: bool


class Bounds(TypedDict, total=False):
    a_min: TensorLike | None
    a_max: TensorLike | None


class Diagonal(TypedDict, total=False):
    k: int


class Reps(TypedDict, total=False):
    reps: Ints
