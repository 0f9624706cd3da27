"""The engine: a graph of recorded operations, and one loop that walks it backwards. Five mechanisms make it up:

record         an operation leaves a Node: its backward function, the arrays that it needs, and the slots of its inputs
GradSlot       where a gradient is summed: the base of Node and, for the leaves, of Tensor
Recompute      a saved array that is computed again when the backward function needs it
observer       sees every backward function before and after it runs: one for all, and hooks for a single tensor
mark_written   an optimizer or `+=` says that it changed an array, so that backward refuses a graph that saved it

An array that no backward function saved is freed with the user's last reference to it. After `backward` nothing of the
graph is alive, without help from the cyclic collector.
"""

from __future__ import annotations

import itertools
import linecache
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.arrays import Array, as_array, is_array

if TYPE_CHECKING:
    from minigrad._tensor import Tensor
    from minigrad.argument_types import CallRecorder, Edge, Function, Grads, Hook, Observer, Step


class _Thread(threading.local):
    """The state that each thread has for itself."""

    recording = True  # False inside no_grad
    outer: Any = None  # inside no_grad: the values of `recording` and `outer` around it
    module_path = ""  # the nn.Module being called, e.g. "blocks.3.attn"; set by nn.Module.__call__
    module_paths: dict[int, str] = {}  # noqa: RUF012  id -> path of all modules below the outermost one that is called
    record_calls: CallRecorder | None = None  # set by debug.check_mode


thread = _Thread()
accumulating = threading.RLock()  # held while a leaf's gradient is changed, so that no thread loses another's part
observer: Observer | None = None  # of all threads, set by debug
if hasattr(os, "register_at_fork"):  # a thread that held the lock does not exist in the child
    os.register_at_fork(after_in_child=accumulating._at_fork_reinit)  # type: ignore[attr-defined]  # in no stub

_ids = itertools.count(1)
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# id of an array that owns its memory -> (weak reference to it, {(first byte, end): time of the last write}); the ids of
# nodes count time: a node whose id is smaller than the time of a write is older
_writes: dict[int, tuple[weakref.ref[Array], dict[tuple[int, int], int]]] = {}
_last_write = 0


class GradSlot:
    """Where a gradient is summed. This base holds the gradient of a node; `Tensor` redefines the methods for leaves.

    grad    the sum so far; None before the first contribution
    hooks   functions of `register_hook`, or None

    A backward function may return its gradients and know nothing of slots. One that is marked with `@accumulates` gets
    the slot of one of its inputs, to save an array and a pass over memory. It uses one of three methods: it writes its
    gradient into `output()`, or adds it to `sum_buffer()`, and returns that array; or it returns its gradient plus the
    array of `take_sum()`, which it must not change. If the method returns None, it returns its gradient alone.
    """

    __slots__ = ("grad", "hooks")
    grad: Array | None
    hooks: list[Hook] | None

    def accumulate(self, grad: Array, totals: dict[Tensor, Array] | None = None) -> None:
        """Add one contribution, never in place: `grad` may be another input's contribution too.

        totals: in a pass, {leaf with hooks: the sum of its contributions}, which is added at the end of the pass.
        """
        self.grad = grad if self.grad is None else as_array(self.grad + grad)

    def output(self) -> Array | None:
        """An array for the whole gradient, its contents undefined; None if a gradient is here already."""
        return None

    def sum_buffer(self) -> Array | None:
        """An array that holds the sum so far, or zeros, to be added to."""
        return None

    def take_sum(self) -> Array | None:
        """The sum so far, which is no longer here."""
        grad, self.grad = self.grad, None
        return grad


NO_SLOT = GradSlot()  # of which every method returns None
NO_SLOT.grad = NO_SLOT.hooks = None


def accumulates(parent: int) -> Callable[[Function], Function]:
    """Marks a backward function that takes the keyword `slot`: the GradSlot of parents[parent], or NO_SLOT.

    NO_SLOT says that the pass is observed, or that a second one may follow.
    """

    def mark(function: Function) -> Function:
        function.accumulates = parent  # type: ignore[attr-defined]  # functions have no such attribute
        return function

    return mark


class Node(GradSlot):
    """One recorded operation.

    id        counts up in order of creation: a name for a person, and a topological order
    backward  the backward function: backward(dout, **saved) -> the parents' gradients, a tuple or a single array
    parents   per input: the Node that made it, a leaf Tensor, or None if it needs no gradient
    saved     arrays and settings by name, the arguments of the backward function; None once freed
    call      in check mode the debug.Call that made the node, so that it can be made again; else None
    """

    __slots__ = ("id", "backward", "parents", "_saved", "shape", "dtype", "module", "call", "_code", "_at")
    _saved: Any  # a dict; None once freed
    call: Any

    def __init__(self, out: Array, parents: Sequence[Edge], backward: Callable[..., Any], saved: dict[str, Any]):
        self.id = next(_ids)
        self.backward, self.parents, self._saved = backward, parents, saved
        self.shape, self.dtype = out.shape, out.dtype
        self.grad = self.hooks = self.call = None
        self.module = thread.module_path
        frame = sys._getframe(2)
        while frame.f_code.co_filename.startswith(_HERE) and frame.f_back:
            frame = frame.f_back
        self._code, self._at = frame.f_code, frame.f_lasti  # `source` finds the line number from these

    @property
    def saved(self) -> Any:
        saved = self._saved
        if saved is not None and Recompute in map(type, saved.values()):
            return {name: value() if type(value) is Recompute else value for name, value in saved.items()}
        return saved

    @property
    def op(self) -> str:
        """The operation's name: that of its backward function, without the ending."""
        return self.backward.__name__.removesuffix("_backward")

    @property
    def source(self) -> tuple[str, int, str]:
        """(file, line, text) of the line outside minigrad that made this node."""
        line = next((n for start, end, n in self._code.co_lines() if start <= self._at < end), 0) or 0
        path = self._code.co_filename
        return path, line, linecache.getline(path, line).strip()

    def __repr__(self) -> str:
        where = f" in {self.module}" if self.module else ""
        return f"<#{self.id} {self.op} {self.shape} {self.dtype}{where}>"


class Recompute:
    """A saved array that is not kept but computed again: make(*args), from arrays that are kept or Recomputes."""

    __slots__ = ("make", "args")

    def __init__(self, make: Callable[..., Array], *args: Any) -> None:
        self.make, self.args = make, args

    def __call__(self) -> Array:
        return self.make(*(arg() if type(arg) is Recompute else arg for arg in self.args))


def record(out: Array, parents: Sequence[Tensor], backward: Callable[..., Any], saved: dict[str, Any]) -> Node | None:
    """The Node for `out` made from Tensors `parents`, or None if no parent needs a gradient."""
    if not thread.recording:
        return None
    edges: list[Edge] = []
    needed = False
    for parent in parents:
        edge = parent.node or (parent if parent._requires_grad else None)
        needed = needed or edge is not None
        edges.append(edge)
    return Node(out, edges, backward, saved) if needed else None


def backward(root: Node, dout: Array, retain_graph: bool = False) -> None:
    """Run every backward function from `root` down to the leaves, adding into the leaves' `.grad`.

    dout: array of root's shape. retain_graph keeps the saved arrays, for a second backward. Raises RuntimeError if a
    part of the graph was freed already, if a saved weight was written since, or for a wrong shape or dtype.
    """
    for _ in steps(root, dout, retain_graph, in_place=not retain_graph):
        pass


def steps(root: Node, dout: Array, retain_graph: bool = False, in_place: bool = False) -> Iterator[Step]:
    """`backward` one node at a time: yields (node, dout, grads) after each.

    in_place: backward functions get GradSlots, so that a yielded gradient may be a sum. A node is freed when the next
    step is asked for, or when its backward function fails; after an exception or an iteration that is not finished the
    nodes that were not reached can still be used.
    """
    order = ancestors(root)
    totals: dict[Tensor, Array] = {}
    root.grad = dout
    try:
        for node in order:
            total = node.take_sum()
            try:
                if total is not None:
                    yield node, *_apply(node, total, in_place, totals)
            finally:  # also when it failed: a part of its gradients may have been added
                if not retain_graph:
                    node._saved, node.parents, node.hooks, node.call = None, (), None, None
        for leaf, total in totals.items():
            leaf.accumulate(total)
    finally:
        for node in order:
            node.grad = None  # the sums of an unfinished pass must not enter the next one


def _apply(node: Node, dout: Array, in_place: bool, totals: dict[Tensor, Array]) -> tuple[Array, Grads]:
    """Run the backward function of one node and add its gradients to the parents' slots.

    Returns dout as the node's hooks left it, and the gradients, one per parent.
    """
    try:
        return _perform(node, dout, in_place, totals)
    except Exception as error:
        error.add_note(_describe(node, dout))
        raise


def _perform(node: Node, dout: Array, in_place: bool, totals: dict[Tensor, Array]) -> tuple[Array, Grads]:
    if node.hooks:
        dout = run_hooks(node.hooks, dout)
    if may_be_stale(node):
        _refuse_written(node)
    saved = node.saved
    if in_place and observer is None:
        which = getattr(node.backward, "accumulates", None)
        if which is not None and node.parents[which] is not None:
            saved = {**saved, "slot": node.parents[which]}
    if observer is not None:
        observer(node, dout, None)
    grads = node.backward(dout, **saved)
    grads = grads if type(grads) is tuple else (grads,)
    if observer is not None:
        observer(node, dout, grads)
    for parent, grad in zip(node.parents, grads, strict=True):
        if parent is None or grad is None:
            continue
        grad = as_array(grad)
        if grad.shape != parent.shape or grad.dtype != parent.dtype:
            raise RuntimeError(
                f"{node.op}_backward returned a gradient of {grad.shape} {grad.dtype} "
                f"for an input of {parent.shape} {parent.dtype}"
            )
        parent.accumulate(grad, totals)
    return dout, grads


def ancestors(root: Node) -> list[Node]:
    """All nodes below root, newest first: no recursion, so a chain of any length works."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node._saved is None:
            raise RuntimeError(
                f"{node!r} has been through backward and its saved arrays are freed; "
                "pass retain_graph=True to the first backward to be able to run a second"
            )
        for parent in node.parents:
            if isinstance(parent, Node) and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.id, reverse=True)


def leaves(root: Node) -> list[Tensor]:
    """The leaf Tensors below a node, each once."""
    edges = {id(parent): parent for node in ancestors(root) for parent in node.parents}
    return [edge for edge in edges.values() if edge is not None and not isinstance(edge, Node)]


def run_hooks(hooks: Sequence[Hook], grad: Array) -> Array:
    """Pass a gradient through hooks: each may return a replacement, or None to leave it as it is."""
    for hook in tuple(hooks):
        replaced = hook(grad)
        if replaced is not None:
            replaced = np.asarray(replaced, dtype=grad.dtype, like=grad)
            if replaced.shape != grad.shape:
                raise RuntimeError(f"a hook turned a gradient of shape {grad.shape} into one of {replaced.shape}")
            grad = replaced
    return grad


def mark_written(array: Array) -> None:
    """Note that the contents of `array` were replaced, as an optimizer's step, `load_state_dict` or `+=` does.

    From then on backward raises in a node that was made before and saved the array or a view of the same memory.
    """
    global _last_write
    owner = _owner(array)
    key, _last_write = id(owner), next(_ids)
    if key not in _writes:
        _writes[key] = weakref.ref(owner, lambda _: _writes.pop(key, None)), {}
    ranges = _writes[key][1]
    ranges[_bytes(array)] = _last_write
    if len(ranges) & (len(ranges) - 1) == 0:  # at 2, 4, 8 ...: what a later write has covered is forgotten
        first, end = max(ranges, key=lambda part: part[1] - part[0])
        for part in [p for p in ranges if first <= p[0] and p[1] <= end and ranges[p] < ranges[first, end]]:
            del ranges[part]


def may_be_stale(node: Node) -> bool:
    """Whether anything at all was written after the node was made."""
    return node.id < _last_write


def _owner(array: Array) -> Array:
    """The array whose memory `array` shows: itself, unless it is a view."""
    holder: Any = array
    while holder is not None:  # between two arrays may stand a memoryview, or what NumPy makes strided views with
        array = holder if is_array(holder) else array
        holder = holder.obj if isinstance(holder, memoryview) else getattr(holder, "base", None)
    return array


def _bytes(array: Array) -> tuple[int, int]:
    """(first byte, end) of an array's memory; of a device's array, all that there is."""
    return np.lib.array_utils.byte_bounds(array) if isinstance(array, np.ndarray) else (0, sys.maxsize)


def _written_after(array: Array, time: int) -> bool:
    _, writes = _writes.get(id(_owner(array)), (None, {}))
    first, end = _bytes(array) if writes else (0, 0)
    return any(at > time and first < stop and start < end for (start, stop), at in tuple(writes.items()))


def _refuse_written(node: Node) -> None:
    """RuntimeError if an array that the node saved, or recomputes another one from, was written after the forward."""
    saved = list(node._saved.items())
    for name, value in saved:
        if isinstance(value, Recompute):
            saved += [(name, part) for part in value.args]
        elif isinstance(value, (tuple, list, dict)):
            saved += [(name, part) for part in (value.values() if isinstance(value, dict) else value)]
        elif hasattr(value, "requires_grad"):  # a Tensor, which a person's own operation saved
            saved.append((name, value.data))
        elif is_array(value) and _written_after(value, node.id):
            raise RuntimeError(
                f"{node.op} saved {name!r} {value.shape}, which an optimizer step, load_state_dict, += or x[i] = has "
                "changed since the forward pass: the gradient would be wrong; run backward first, or forward again"
            )


def _describe(node: Node, dout: Array) -> str:
    path, line, text = node.source
    arrays = ", ".join(f"{k} {v.shape}" for k, v in (node._saved or {}).items() if is_array(v))
    where = f" in module {node.module}" if node.module else ""
    return (
        f"during backward of node #{node.id}, {node.op}{where}, made at {path}:{line}\n"
        f"    {text}\n  dout {dout.shape}, saved: {arrays or 'nothing'}"
    )
