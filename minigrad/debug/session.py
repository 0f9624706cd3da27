"""An interactive walk through one backward pass.

    session = Session(break_on="blocks.1.attn")
    with check_mode():  # so that `check` works
        loss = model(ids, targets)
    session.backward(loss)

It is `graph.observer` during the pass: the engine runs as always, on the arrays of the pass.
"""

import bdb
import cmd
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TextIO

import numpy as np

import kernels
from kernels.arrays import as_array, is_array, on_host
from kernels.system.printable import did_you_mean
from minigrad import graph
from minigrad._tensor import Tensor
from minigrad.argument_types import Array, Edge, Grads, TensorLike
from minigrad.debug import stepping
from minigrad.debug.breakpoints import in_module, names_in
from minigrad.debug.explanations import explanation
from minigrad.debug.step_into import BackwardDebugger, uncompiled_kernels
from minigrad.gradient_checking import GradcheckError, gradcheck

_NEIGHBOURS = 3  # nodes that `where` shows on either side


class Abandoned(Exception):
    """The session was left before the end of the pass; the leaves' gradients are as before it."""


class NoSuchNode(ValueError):
    """No node of the graph has this id, module or operation."""


class Session(cmd.Cmd):
    """A prompt before each node of a backward pass, or before the nodes that `break_on` names.

    break_on        an id ("#17"), the path of a module or of one around it, or an operation; None: every node
    parameters      {name: Tensor}, so that leaves can be called by their names
    stdin, stdout   text streams instead of the terminal
    """

    prompt = "(backward) "

    def __init__(
        self,
        break_on: str | None = None,
        parameters: Mapping[str, Tensor] | None = None,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
    ) -> None:
        super().__init__(stdin=stdin, stdout=stdout)
        self.use_rawinput = stdin is None
        self._streams = {} if stdin is None else {"stdin": stdin, "stdout": stdout}
        self._leaf_names = {id(tensor): name for name, tensor in (parameters or {}).items()}
        self._break_on = break_on
        self._wanted = lambda node: break_on is None or _is_called(node, break_on)  # whether to stop at a node
        self._stepping = self._leaving = False
        self._inside = ExitStack()  # undone when the backward function that was stepped into returns
        self._nodes: list[graph.Node] = []
        self._node: Any = None  # at a prompt a graph.Node, and its
        self._dout: Any = None
        self._last: tuple[graph.Node, dict[str, Any], Sequence[Edge]] | None = None

    def backward(self, loss: Tensor, grad: TensorLike | None = None) -> None:
        """`loss.backward(grad)`, stopping on the way. Raises Abandoned, and NoSuchNode if break_on names nothing."""
        dout = loss.upstream(grad)
        if loss.node is None:  # no node to stop at
            return loss.accumulate(dout)
        self._nodes = graph.ancestors(loss.node)
        if self._break_on and not any(_is_called(node, self._break_on) for node in self._nodes):
            raise NoSuchNode(self._unknown(self._break_on, self._nodes))
        before, graph.observer = graph.observer, self._watch
        try:
            with stepping.all_or_nothing(loss.node):
                graph.backward(loss.node, dout)
        except (bdb.BdbQuit, Abandoned, KeyboardInterrupt):
            raise Abandoned from None
        finally:
            self._inside.close()
            graph.observer = before
            self._nodes, self._node, self._dout, self._last = [], None, None, None

    def _watch(self, node: graph.Node, dout: Array, grads: Grads | None) -> None:
        """graph.observer: before a node (grads None) prompt if wanted; after it keep its gradients for `show`."""
        if grads is not None:
            self._inside.close()
            self._last = node, stepping.named_gradients(node, grads), node.parents
            return
        if not self._wanted(node):
            return
        self._node, self._dout = node, dout
        self._headline()
        self.cmdloop()
        if self._leaving:
            raise Abandoned
        if self._stepping:
            self._stepping = False
            debugger = BackwardDebugger(node.backward, **self._streams)
            if kernels.describe() != "reference":
                self._inside.enter_context(uncompiled_kernels())
            self._inside.callback(debugger.end)
            debugger.begin()  # last: it stops in the function that is called next

    # ------------------------------------------------------------------------------------------ walking

    def do_next(self, _: str) -> bool:
        """next: run backward of this node, stop before the next one."""
        self._wanted = lambda node: True
        return True

    def do_step(self, _: str) -> bool:
        """step: go into the source of this backward function and its kernel with pdb; `continue` there comes back."""
        self._wanted = lambda node: True
        self._stepping = True
        return True

    def do_goto(self, target: str) -> bool:
        """goto ID | MODULE | OP: run up to the next node of this id, module or operation."""
        ahead = [node for node in self._nodes if node.id < self._node.id]
        if not target or not any(_is_called(node, target) for node in ahead):
            self._say(self._unknown(target, ahead) if target else "goto what? ID, MODULE or OP")
            return False
        self._wanted = lambda node: _is_called(node, target)
        return True

    def do_continue(self, _: str) -> bool:
        """continue: run up to the next node that --break-on names, or to the end."""
        self._wanted = lambda node: self._break_on is not None and _is_called(node, self._break_on)
        return True

    def do_quit(self, _: str) -> bool:
        """quit: leave; gradients and weights stay as they were before this pass. End of input does the same."""
        self._leaving = True
        return True

    do_n, do_s, do_c, do_q = do_next, do_step, do_continue, do_quit

    def do_EOF(self, _: str) -> bool:
        self._say("")
        return self.do_quit(_)

    # ------------------------------------------------------------------------------------------ looking

    def do_where(self, _: str) -> None:
        """where: the nodes around this one, the line that made it, and where its gradients will go."""
        at = self._nodes.index(self._node)
        for i in range(max(0, at - _NEIGHBOURS), min(len(self._nodes), at + _NEIGHBOURS + 1)):
            self._say(f"{'->' if i == at else '  '} {_title(self._nodes[i])}")
        path, line, text = self._node.source
        self._say(f"made at {path}:{line}\n    {text}\ngradients go to")
        for name, parent in stepping.named_gradients(self._node, self._node.parents).items():
            self._say(f"    {name:10} {self._destination(parent)}")

    def do_show(self, name: str) -> None:
        """show [NAME]: an array: dout, a saved one, or a gradient from the node before. Without NAME: all in short."""
        arrays = self._arrays()
        if not name:
            for each, value in arrays.items():
                self._say(f"    {each:10} {_short(value)}")
        elif name not in arrays:
            self._say(f"nothing is called {name!r} here; there are {', '.join(arrays)}")
        else:
            value = arrays[name]
            self._say(f"{name} {_short(value)}")
            if is_array(value):
                self._say(np.array2string(on_host(value), precision=5, threshold=60, edgeitems=3, max_line_width=110))

    def do_grad(self, _: str) -> None:
        """grad: the gradients from the node before, and their sums so far."""
        if self._last is None:
            return self._say("no node has run yet")
        node, named, parents = self._last
        self._say(f"from {_title(node)}")
        for (name, grad), parent in zip(named.items(), parents, strict=True):
            self._say(f"    {name:10} {_short(grad)}")
            if parent is not None and parent.grad is not None:
                self._say(f"      to {self._destination(parent)}; so far {stepping.Stats.of(parent.grad)}")

    def do_check(self, _: str) -> None:
        """check: this node's backward function against finite differences, in float64, on its real inputs."""
        call = self._node.call
        if call is None:
            return self._say("this node was not made in check mode, so it cannot be run again")
        inputs = [Tensor(on_host(t.data).astype(np.float64), t.requires_grad) if t.dtype.kind == "f" else t
                  for t in call.tensors()]  # fmt: skip
        names = [name[1:] for name in stepping.named_gradients(self._node, self._node.parents)]
        names = names if len(names) == len(inputs) else [str(i) for i in range(len(inputs))]
        observer, graph.observer = graph.observer, None
        try:
            report = gradcheck(lambda *tensors: call.again(tensors), dict(zip(names, inputs, strict=True)))
        except (GradcheckError, TypeError) as error:
            return self._say(f"{_title(self._node)}: {error}")
        finally:
            graph.observer = observer
        errors = ", ".join(f"{name} {error:.1e}" for name, error in report.errors.items())
        self._say(f"{_title(self._node)} agrees with finite differences; largest relative errors: {errors}")

    def do_explain(self, _: str) -> None:
        """explain: formula, gradient and derivation of this operation."""
        self._say(explanation(self._node))

    # ------------------------------------------------------------------------------------------- helpers

    def do_help(self, name: str) -> None:
        """help [COMMAND]: this list."""
        names = [n for n in self.get_names() if n.startswith("do_") and len(n) > 4 and getattr(self, n).__doc__]
        chosen = [n for n in names if not name or n.removeprefix("do_").startswith(name)]
        for each in chosen:
            command, _, meaning = getattr(self, each).__doc__.partition(": ")
            self._say(f"    {command:22} {meaning}")
        if not chosen:
            self.default(name)

    def default(self, line: str) -> None:
        self._say(f"unknown command {line!r}; `help` lists them")

    def _say(self, text: str) -> None:
        print(text, file=self.stdout)

    def _headline(self) -> None:
        path, line, text = self._node.source
        position = f"node {self._nodes.index(self._node) + 1} of {len(self._nodes)}"
        self._say(f"{position}: {_title(self._node)}\n    {path}:{line}  {text}")

    def _arrays(self) -> dict[str, Any]:
        given = self._last[1] if self._last else {}
        return {**given, **self._node.saved, "dout": self._dout}

    def _destination(self, parent: Edge) -> str:
        if parent is None:
            return "nowhere: not wanted"
        return _title(parent) if isinstance(parent, graph.Node) else self._leaf_names.get(id(parent), "a leaf")

    def _unknown(self, target: str, nodes: Sequence[graph.Node]) -> str:
        near = did_you_mean(target, {n.op for n in nodes} | {n.module for n in nodes})
        return f"no node to come is called {target!r}{near or '; ' + names_in(nodes)}"


def _is_called(node: graph.Node, target: str) -> bool:
    """target: an id with or without #, a module's path or one around it, or an operation."""
    return target.removeprefix("#") == str(node.id) or in_module(node, target) or node.op == target


def _title(node: graph.Node) -> str:
    return f"#{node.id} {node.op}" + (f" in {node.module}" if node.module else "")


def _short(value: Any) -> str:
    return str(stepping.Stats.of(as_array(value))) if is_array(value) or isinstance(value, np.generic) else repr(value)
