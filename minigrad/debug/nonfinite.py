"""The search for the first NaN or infinity: the first tensor of a step that is not finite though its inputs are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import kernels
from kernels.arrays import on_host
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array
from minigrad.debug.recorded_calls import check_mode


@dataclass(frozen=True)
class BadTensor:
    """The first tensor that is not finite.

    what      "leaf"; "output" of a node; "gradient" from a backward function; or "kernel": the result of a fast
              kernel, which is finite on the reference kernels
    node      the graph.Node; None for a leaf
    message   a description in a few lines
    rerun     (function, args, kwargs): the call of the operation or of the backward function that gives this
              tensor; None for a leaf
    """

    what: str
    node: graph.Node | None
    message: str
    rerun: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None


def find_nonfinite(make_loss: Callable[[], Tensor], leaves: Mapping[str, Tensor] | None = None) -> BadTensor | None:
    """Compute a loss on the reference kernels and find its first NaN or infinity: a BadTensor, or None.

    make_loss   a function without arguments that computes the loss, deterministically; called once or twice
    leaves      {name: Tensor} of parameters, which are looked at first

    Forward is searched first, then backward. If all is finite on the reference kernels, the step is computed on the
    kernels in use, and the first of them whose result is not finite is named. No gradient is changed.
    """
    for name, leaf in (leaves or {}).items():
        if not np.isfinite(leaf.data).all():
            return BadTensor("leaf", None, f"{name} was not finite before the step: {_describe(leaf.data)}")
    with kernels.use("reference"):
        found = _bad_node(make_loss)
    if found is not None or kernels.describe() == "reference":
        return found
    found = _bad_node(make_loss)
    if found is None:
        return None
    message = f"the reference kernels stay finite; of the fast ones, {found.message}"
    return BadTensor("kernel", found.node, message, found.rerun)


def _bad_node(make_loss: Callable[[], Tensor]) -> BadTensor | None:
    """The first output of a new loss that is not finite, else the first such gradient; None if all is finite."""
    with check_mode(), np.errstate(all="ignore"):
        loss = make_loss()
        if loss.node is None:
            return None
        nodes = graph.ancestors(loss.node)
        for node in reversed(nodes):  # in the order in which they were made
            if node.call and _is_bad(node.call.out) and not any(_is_bad(t.data) for t in node.call.tensors()):
                call = node.call
                return BadTensor("output", node, _output_message(node), (call.function, call.args, call.kwargs))
        return _bad_gradient(loss, nodes)


def _bad_gradient(loss: Tensor, nodes: list[graph.Node]) -> BadTensor | None:
    """The first gradient, in the order of backward, that is not finite though its dout is; None without one."""
    grads: dict[Any, Array] = {loss.node: np.ones_like(loss.data)}
    for node in nodes:  # without the engine, so that no leaf's gradient changes
        dout = grads.pop(node, None)
        if dout is None:
            continue
        results = node.backward(dout, **node.saved)
        for i, (parent, grad) in enumerate(
            zip(node.parents, results if type(results) is tuple else (results,), strict=True)
        ):
            if parent is None or grad is None:
                continue
            if _is_bad(grad) and not _is_bad(dout):
                which = f"the gradient of input {i} is the first that is not finite: {_describe(grad)}"
                message = f"{_name(node)}: {which}\n{_inputs(node)}"
                return BadTensor("gradient", node, message, (node.backward, (dout,), node.saved))
            if isinstance(parent, graph.Node):
                grads[parent] = grads[parent] + grad if parent in grads else grad
    return None


def _is_bad(array: Array) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _output_message(node: graph.Node) -> str:
    return f"{_name(node)}: its output is the first that is not finite: {_describe(node.call.out)}\n{_inputs(node)}"


def _name(node: graph.Node) -> str:
    path, line, text = node.source
    where = f" in {node.module}" if node.module else ""
    return f"#{node.id} {node.op}{where}, made at {path}:{line} `{text}`"


def _inputs(node: graph.Node) -> str:
    """A line for each array that the operation was given."""
    return "\n".join(f"    input {i}: {_describe(t.data)}" for i, t in enumerate(node.call.tensors()))


def _describe(array: Array) -> str:
    """Shape, range and the first bad element of an array, e.g. ``(3, 5) float32, 1 of 15 not finite, ...``."""
    if array.dtype.kind != "f":
        return f"{array.shape} {array.dtype}"
    array = on_host(array)
    bad = ~np.isfinite(array)
    text = f"{array.shape} {array.dtype}"
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        text += f", {int(bad.sum())} of {array.size} not finite, first {array[index]} at {index}"
    if (~bad).any():
        text += f", finite ones in [{array[~bad].min():.4g}, {array[~bad].max():.4g}]"
    return text
