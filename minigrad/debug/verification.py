"""The check of a graph's nodes on their own arrays: kernels, saved arrays and backward functions.

    with minigrad.debug.check_mode():
        loss = model(ids, targets)
    minigrad.debug.verify(loss)

Three comparisons are made for each node:

numerical gradient   against the backward function on the reference kernels, in float64
output               the node's own, against that of the reference kernels in float64
gradient             by the kernels in use from the saved arrays, against the reference kernels in float64

The tolerance is measured: the rounding error of the reference kernels in the node's own dtype.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

import kernels
from kernels.arrays import on_host
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array
from minigrad.gradient_checking import GradcheckError, gradcheck

_ROUNDING = 16.0  # kernels sum in other orders: this many times the reference kernels' error is allowed
_MAX_ELEMENTS = 64  # of an input that is checked in every coordinate; larger ones in random directions


class VerificationError(AssertionError):
    """A wrong node. `node`: the graph.Node; `check`: the comparison that failed."""

    def __init__(self, node: graph.Node, check: str, message: str) -> None:
        path, line, text = node.source
        where = f" in {node.module}" if node.module else ""
        super().__init__(f"#{node.id} {node.op}{where}, made at {path}:{line} `{text}`: {message}")
        self.node, self.check = node, check


def verify(loss: Tensor, n_nodes: int | None = None, seed: int = 0) -> int:
    """Check all nodes below the Tensor `loss`, or n_nodes of them chosen by `seed`, in the order of backward.

    The graph must be made in `check_mode`, and backward must not have freed it. Returns the number of nodes that
    were checked. Raises VerificationError for the first wrong node, and ValueError if no node can be checked. Arrays
    and gradients stay as they are.
    """
    nodes = chosen_nodes(loss, n_nodes, seed)
    for node in nodes:
        verify_node(node, seed)
    return len(nodes)


def chosen_nodes(loss: Tensor, n_nodes: int | None = None, seed: int = 0) -> list[graph.Node]:
    """The nodes that `verify` checks, in the order of backward."""
    nodes = graph.ancestors(loss.node) if loss.node else []
    nodes = [node for node in nodes if node.call]
    if not nodes:
        raise ValueError("no node can be checked: make the graph inside `with minigrad.debug.check_mode():`")
    if n_nodes is not None and n_nodes < len(nodes):
        chosen = np.random.default_rng(seed).choice(len(nodes), n_nodes, replace=False)
        nodes = [nodes[i] for i in sorted(chosen)]
    return nodes


def verify_node(node: graph.Node, seed: int = 0) -> None:
    """Check one node of a graph that was made in `check_mode`; see `verify`."""
    _check_backward_function(node, seed)
    dout = np.random.default_rng([seed, node.id]).standard_normal(node.shape)
    with kernels.use("reference"):
        exact_out, exact_grads = _replay(node, np.float64, dout)
        reference_out, reference_grads = _replay(node, node.dtype, dout)
    _compare(node, "output", "output", node.call.out, exact_out, reference_out)
    grads = node.backward(np.asarray(dout.astype(node.dtype), like=node.call.out), **node.saved)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for i, (parent, grad) in enumerate(zip(node.parents, grads, strict=True)):
        if parent is not None:
            exact, reference = exact_grads[i], reference_grads[i]
            grad = np.zeros(parent.shape, parent.dtype) if grad is None else grad
            _compare(node, "gradient", f"gradient of input {i}", grad, exact, reference)


def _check_backward_function(node: graph.Node, seed: int) -> None:
    """The backward function against the numerical gradient, on the reference kernels."""
    inputs = {f"input {i}": _copy(t, np.float64) for i, t in enumerate(node.call.tensors())}
    if not any(t.requires_grad for t in inputs.values()):
        return
    try:
        with kernels.use("reference"):
            gradcheck(
                lambda *tensors: node.call.again(tensors), inputs,
                rtol=1e-5, max_coordinates=_MAX_ELEMENTS, n_directions=2, seed=seed + node.id,
            )  # fmt: skip
    except GradcheckError as error:
        message = f"the backward function disagrees with the numerical gradient: {error}"
        raise VerificationError(node, "numerical gradient", message) from error


def _copy(tensor: Tensor, dtype: npt.DTypeLike) -> Tensor:
    """A leaf with the same numbers, on the host; integers stay integers."""
    wanted = tensor.requires_grad
    data = on_host(tensor.data)
    data = data.astype(dtype) if tensor.dtype.kind == "f" else data
    return Tensor(data, requires_grad=wanted)


def _replay(node: graph.Node, dtype: npt.DTypeLike, dout: np.ndarray) -> tuple[Array, list[Any]]:
    """Repeat the node's call in another dtype -> its output, and the gradients of its inputs for dout."""
    out = node.call.again([_copy(t, dtype) for t in node.call.tensors()])
    grads = out.node.backward(dout.astype(dtype), **out.node.saved)
    grads = grads if isinstance(grads, tuple) else (grads,)
    return out.data, [
        np.zeros(p.shape) if g is None and p is not None else g for p, g in zip(out.node.parents, grads, strict=True)
    ]


def _compare(node: graph.Node, check: str, what: str, array: Array, exact: Array, reference: Array) -> None:
    """VerificationError if `array` is further from `exact` than rounding in its dtype explains."""
    array = on_host(array)
    if array.shape != exact.shape:
        raise VerificationError(node, check, f"the {what} has shape {array.shape}, expected {exact.shape}")
    largest = _largest(exact)
    # the reference kernels' own error, and a few units in the last place of the largest number
    allowed = _ROUNDING * (_largest(reference - exact) + np.finfo(array.dtype).eps * largest)
    error = _largest(array - exact)
    if not error <= allowed:
        index = np.unravel_index(int(np.argmax(np.abs(array - exact))), array.shape)
        raise VerificationError(
            node, check,
            f"the {what} differs from the reference kernels' in float64 by {error:.3g} at {tuple(map(int, index))} "
            f"({float(array[index]):.8g} instead of {float(exact[index]):.8g}); rounding explains {allowed:.3g}",
        )  # fmt: skip


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))
