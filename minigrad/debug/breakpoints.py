"""Breakpoints on backward functions, chosen by operation and module.

    with minigrad.break_on(op="layernorm", module="blocks.1"):
        loss.backward()

While at least one is set, `graph.observer` is `_watch`, which calls `breakpoint()`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from kernels.system.printable import did_you_mean
from minigrad import graph
from minigrad.argument_types import Array, Grads, Observer
from minigrad.debug.stepping import Step

_breakpoints: list[Breakpoint] = []
_outer_observer: Observer | None = None  # graph.observer as it was before the first breakpoint was set


def break_on(
    op: str | None = None,
    module: str | None = None,
    when: Callable[[Step], object] | None = None,
    before: bool = True,
) -> Breakpoint:
    """Stop in the debugger at every backward function that fits. It calls `breakpoint()`: pdb, ipdb or VS Code opens.

    op       name of the operation, "layernorm"
    module   path of a module, "blocks.1.attn", or of one around it, "blocks.1"
    when     when(step) -> bool, for a Step; asked only where the others fit
    before   True: stop right before the backward function; False: right after it, when `step.grads` is known

    Returns a Breakpoint, which is active until its `remove()`, or for the length of a `with` block. At a stop,
    `step`, `node`, `dout` and `grads` are variables. Warns (RuntimeWarning) if no node of the first pass fits.
    """
    return Breakpoint(op, module, when, before)


class Breakpoint:
    """One breakpoint; `break_on` makes it."""

    def __init__(self, op: str | None, module: str | None, when: Callable[[Step], object] | None, before: bool) -> None:
        global _outer_observer
        self.op, self.module, self.when, self.before = op and op.removesuffix("_backward"), module, when, before
        self._spelling_checked = False
        if not _breakpoints:
            _outer_observer, graph.observer = graph.observer, _watch
        _breakpoints.append(self)

    def remove(self) -> None:
        """Deactivate it. A second call does nothing."""
        if self in _breakpoints:
            _breakpoints.remove(self)
            if not _breakpoints:
                graph.observer = _outer_observer

    def __enter__(self) -> Breakpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in (("op", self.op), ("module", self.module)) if value]
        return f"break_on({', '.join(given)})"

    def fits(self, node: graph.Node) -> bool:
        """Whether op and module are the node's."""
        return (self.op is None or node.op == self.op) and (self.module is None or in_module(node, self.module))

    def stops_at(self, node: graph.Node, dout: Array, grads: Grads | None) -> bool:
        """Whether to stop here; grads: None before the backward function."""
        if self.before != (grads is None) or not self.fits(node):
            return False
        return self.when is None or bool(self.when(Step.of(node, dout, grads)))

    def check_spelling(self, node: graph.Node) -> None:
        """At the first node of the first pass: warn if no node of the pass fits."""
        if self._spelling_checked:
            return
        self._spelling_checked = True
        nodes = graph.ancestors(node)
        if not any(map(self.fits, nodes)):
            near = did_you_mean(self.op, {n.op for n in nodes}) or did_you_mean(self.module, {n.module for n in nodes})
            message = f"{self!r} matches no node of this backward pass; {names_in(nodes)}{near}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)


def _watch(node: graph.Node, dout: Array, grads: Grads | None) -> None:
    """graph.observer while there are breakpoints."""
    if _outer_observer is not None:
        _outer_observer(node, dout, grads)
    stopping = False
    for point in tuple(_breakpoints):
        point.check_spelling(node)
        stopping = point.stops_at(node, dout, grads) or stopping
    if stopping:
        step = Step.of(node, dout, grads)  # noqa: F841  a variable to look at in the debugger
        if grads is None:
            breakpoint()
            return  # backward comes next: `return`, then `step` twice, leads into it
        breakpoint()
        return  # the backward function has run: see `step` and `grads`


def in_module(node: graph.Node, path: str) -> bool:
    """Whether the node was made in the module at `path` or in one below it."""
    return node.module == path or node.module.startswith(path + ".")


def names_in(nodes: Sequence[graph.Node]) -> str:
    """The operations and modules of these nodes, as a part of a message."""
    ops = ", ".join(sorted({node.op for node in nodes}))
    modules = sorted({node.module for node in nodes if node.module})
    more = ", ..." if len(modules) > 12 else ""
    return f"its ops are {ops}" + (f"; its modules {', '.join(modules[:12])}{more}" if modules else "")
