"""Backward one node at a time, with the inputs and outputs of each backward function.

    for step in minigrad.backward_steps(loss):
        print(step)

A Step holds copies, which later steps do not change.
"""

import ast
import copy
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from kernels.arrays import on_host
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array, Grads, Shape, TensorLike


@dataclass(frozen=True)
class Stats:
    """An array in one line. norm, min, max: of its finite elements, NaN without any; zeros: their share."""

    shape: Shape
    dtype: str
    norm: float
    min: float
    max: float
    zeros: float
    nonfinite: int

    @classmethod
    def of(cls, array: Array) -> "Stats":
        values = on_host(array).astype(np.float64).ravel()
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
        largest = max(abs(low), abs(high))
        scaled = finite / (largest or 1.0)  # squares of what is left cannot overflow
        zeros = 1.0 - np.count_nonzero(values) / values.size if values.size else 0.0
        norm = largest * math.sqrt(float(scaled @ scaled)) if finite.size else math.nan
        return cls(array.shape, array.dtype.name, norm, low, high, zeros, values.size - finite.size)

    def __str__(self) -> str:
        bad = f"  {self.nonfinite} NOT FINITE" if self.nonfinite else ""
        numbers = f"norm {self.norm:.4g}  min {self.min:.4g}  max {self.max:.4g}  zeros {self.zeros:.1%}"
        return f"{self.shape} {self.dtype}  {numbers}{bad}"


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """One node of a backward pass. Its arrays are copies, which later steps do not change.

    id, op, module   the node's number, its operation, the path of its module ("" outside of any)
    source           (file, line, text) of the line that made the node
    saved            arrays and settings saved for backward, by name
    dout             the gradient of the node's output
    grads            the gradients of its inputs, None for an input that needs none: {"dx": ..., "dweight": ...}, or
                     "d0", "d1", ... where the inputs' names are not known; empty before the backward function ran
    """

    id: int
    op: str
    module: str
    source: tuple[str, int, str]
    saved: dict[str, Any]
    dout: Array
    grads: dict[str, Array | None]

    @classmethod
    def of(cls, node: graph.Node, dout: Array, grads: Grads | None = None) -> "Step":
        named = {} if grads is None else named_gradients(node, grads)
        saved, dout, named = copy.deepcopy((node.saved, dout, named))
        return cls(node.id, node.op, node.module, node.source, saved, dout, named)

    @property
    def arrays(self) -> dict[str, Array]:
        """All arrays by name: what was saved, dout, and the gradients."""
        named = {**self.saved, "dout": self.dout, **self.grads}
        return {name: value for name, value in named.items() if hasattr(value, "dtype") and hasattr(value, "shape")}

    @functools.cached_property
    def stats(self) -> dict[str, Stats]:
        """{name: Stats} of `arrays`."""
        return {name: Stats.of(array) for name, array in self.arrays.items()}

    def __repr__(self) -> str:
        where = f" in {self.module}" if self.module else ""
        return f"<step #{self.id} {self.op}{where}: {', '.join(self.grads) or 'not yet run'}>"

    def __str__(self) -> str:
        path, line, text = self.source
        where = f" in {self.module}" if self.module else ""
        settings = [f"{name}={value!r:.60}" for name, value in self.saved.items() if name not in self.stats]
        lines = [f"#{self.id} {self.op}{where}", f"    {path}:{line}", f"        {text}"]
        lines += [f"    {name:10} {stats}" for name, stats in self.stats.items()]
        return "\n".join([*lines, f"    {', '.join(settings)}"] if settings else lines)


def backward_steps(loss: Tensor, grad: TensorLike | None = None, retain_graph: bool = False) -> Iterator[Step]:
    """`loss.backward(grad, retain_graph)` one node at a time: an iterator that yields a Step after each.

    The leaves get the same gradients, bit for bit. An iterator that is closed before its end restores the leaves'
    gradients. Raises what `Tensor.backward` raises.
    """
    dout = loss.upstream(grad)
    if loss.node is None:
        loss.accumulate(dout)
        return iter(())
    return _steps(loss.node, dout, retain_graph)


def _steps(root: graph.Node, dout: Array, retain_graph: bool) -> Iterator[Step]:
    with all_or_nothing(root):
        for step in graph.steps(root, dout, retain_graph):
            yield Step.of(*step)


@contextmanager
def all_or_nothing(root: graph.Node) -> Iterator[None]:
    """Around a backward from `root`: if it raises or is left early, the leaves' gradients are restored."""
    leaves = graph.leaves(root)
    # only in an arena does the engine add in place
    before = [(t, t.grad, t.grad.copy() if t.grad is not None and t.grad is t.grad_buffer else None) for t in leaves]
    try:
        yield
    except BaseException:  # an iterator that is closed early raises GeneratorExit
        for leaf, grad, values in before:
            leaf.grad = grad
            if grad is not None and values is not None:
                grad[...] = values
        raise


# ------------------------------------------------------------------------------- names of the gradients


def named_gradients(node: graph.Node, grads: Sequence[Any]) -> dict[str, Any]:
    """{"dx": gradient, ...} in the order of the node's parents; see `Step.grads`."""
    found = _input_names(node.backward).get(len(grads), set())
    names = next(iter(found)) if len(found) == 1 else range(len(grads))
    names = names if len(set(names)) == len(grads) else range(len(grads))
    return {f"d{name}": grad for name, grad in zip(names, grads, strict=True)}


@functools.cache
def _input_names(backward: Callable[..., Any]) -> dict[int, set[tuple[str, ...]]]:
    """{number of inputs: {their names}}, from the calls `record(out, (x, weight), backward, ...)` in its module."""
    try:
        module = ast.parse(inspect.getsource(sys.modules[backward.__module__]))
    except (KeyError, OSError, TypeError):  # defined in a REPL
        return {}
    found: dict[int, set[tuple[str, ...]]] = {}
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in ast.walk(function):
            if _records(call, backward.__name__):
                for names in _tuples_of_names(call.args[1], function):
                    found.setdefault(len(names), set()).add(names)
    return found


def _records(call: ast.AST, name: str) -> TypeGuard[ast.Call]:
    """Whether this is a call `record(out, parents, NAME, ...)`."""
    if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] != "record" or len(call.args) < 3:
        return False
    return ast.unparse(call.args[2]).split(".")[-1] == name


def _tuples_of_names(parents: ast.expr, function: ast.FunctionDef) -> set[tuple[str, ...]]:
    """The tuples of plain names in an expression, or, if it is a variable, in what the function assigns to it."""
    places = [parents]
    if isinstance(parents, ast.Name):
        assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
        places = [node.value for node in assigned if ast.unparse(node.targets[0]) == parents.id]
    tuples = [node for place in places for node in ast.walk(place) if isinstance(node, ast.Tuple)]
    names = [[e.id for e in t.elts if isinstance(e, ast.Name)] for t in tuples]
    return {tuple(each) for each, t in zip(names, tuples, strict=True) if len(each) == len(t.elts)}
