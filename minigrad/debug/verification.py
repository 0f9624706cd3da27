"""Checking the rules of a live graph on its own arrays.

    with minigrad.debug.check_mode():
        loss = model(ids, targets)
    minigrad.debug.verify(loss)

Three things are compared for a node. Its rule on the plain kernels, in float64, with measured slopes; its output
with that of the plain kernels in float64; and the gradients that its rule makes of what it has saved, by the
kernels in use, with those of the plain ones in float64. How much rounding may explain is not guessed but
measured: it is what the plain kernels themselves lose in the node's own dtype.
"""

import numpy as np

import kernels
from kernels.arrays import on_host
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.gradient_checking import GradcheckError, gradcheck

_ROUNDING = 16.0  # kernels sum in different orders: so many times the plain kernels' own loss is allowed
_MAX_ELEMENTS = 64  # of an input that is checked in every coordinate; larger ones in random directions


class VerificationError(AssertionError):
    """A node whose rule, kernels or saved arrays are wrong. `node` is the graph.Node, `check` what failed."""

    def __init__(self, node, check, message):
        path, line, text = node.source
        where = f" in {node.module}" if node.module else ""
        super().__init__(f"#{node.id} {node.op}{where}, made at {path}:{line} `{text}`: {message}")
        self.node, self.check = node, check


def verify(loss, n_nodes=None, seed=0):
    """Check all nodes below the Tensor `loss`, or n_nodes of them chosen by `seed`, in the order of backward.

    The graph must have been made in `check_mode` and not been through backward. Returns how many nodes were
    checked. Raises VerificationError for the first that is wrong, and ValueError for a graph that cannot be
    checked. Nothing is changed, neither arrays nor gradients.
    """
    nodes = chosen_nodes(loss, n_nodes, seed)
    for node in nodes:
        verify_node(node, seed)
    return len(nodes)


def chosen_nodes(loss, n_nodes=None, seed=0):
    """The nodes that `verify` checks, in the order of backward."""
    nodes = graph.ancestors(loss.node) if loss.node else []
    nodes = [node for node in nodes if node.call]
    if not nodes:
        raise ValueError("no node can be checked: make the graph inside `with minigrad.debug.check_mode():`")
    if n_nodes is not None and n_nodes < len(nodes):
        chosen = np.random.default_rng(seed).choice(len(nodes), n_nodes, replace=False)
        nodes = [nodes[i] for i in sorted(chosen)]
    return nodes


def verify_node(node, seed=0):
    """Check one node of a graph that was made in `check_mode`; see `verify`."""
    _check_slopes(node, seed)
    dout = np.random.default_rng([seed, node.id]).standard_normal(node.shape)
    with kernels.use("reference"):
        exact_out, exact_grads = _replay(node, np.float64, dout)
        plain_out, plain_grads = _replay(node, node.dtype, dout)
    _compare(node, "output", "output", node.call.out, exact_out, plain_out)
    grads = node.backward(np.asarray(dout.astype(node.dtype), like=node.call.out), **node.saved)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for i, (parent, grad) in enumerate(zip(node.parents, grads, strict=True)):
        if parent is not None:
            exact, plain = exact_grads[i], plain_grads[i]
            grad = np.zeros(parent.shape, parent.dtype) if grad is None else grad
            _compare(node, "gradient", f"gradient of input {i}", grad, exact, plain)


def _check_slopes(node, seed):
    """The rule against finite differences, on the plain kernels: it is the rule that is in question here."""
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
        raise VerificationError(node, "slope", f"the rule does not fit the measured slope: {error}") from error


def _copy(tensor, dtype):
    """A leaf with the same numbers, on the host; integers stay integers."""
    wanted = tensor.requires_grad
    data = on_host(tensor.data)
    data = data.astype(dtype) if tensor.dtype.kind == "f" else data
    return Tensor(data, requires_grad=wanted)


def _replay(node, dtype, dout):
    """The node made again in another dtype -> its output, and the gradients that its rule gives for dout."""
    out = node.call.again([_copy(t, dtype) for t in node.call.tensors()])
    grads = out.node.backward(dout.astype(dtype), **out.node.saved)
    grads = grads if isinstance(grads, tuple) else (grads,)
    return out.data, [
        np.zeros(p.shape) if g is None and p is not None else g for p, g in zip(out.node.parents, grads, strict=True)
    ]


def _compare(node, check, what, array, exact, plain):
    """VerificationError if `array` is further from `exact` than rounding in its dtype explains."""
    array = on_host(array)
    if array.shape != exact.shape:
        raise VerificationError(node, check, f"the {what} has shape {array.shape}, expected {exact.shape}")
    largest = _largest(exact)
    # the plain kernels' own error, and a few units in the last place of the largest number
    allowed = _ROUNDING * (_largest(plain - exact) + np.finfo(array.dtype).eps * largest)
    error = _largest(array - exact)
    if not error <= allowed:
        index = np.unravel_index(int(np.argmax(np.abs(array - exact))), array.shape)
        raise VerificationError(
            node, check,
            f"the {what} differs from the plain kernels' in float64 by {error:.3g} at {tuple(map(int, index))} "
            f"({float(array[index]):.8g} instead of {float(exact[index]):.8g}); rounding explains {allowed:.3g}",
        )  # fmt: skip


def _largest(array):
    return float(np.abs(array).max(initial=0.0))
