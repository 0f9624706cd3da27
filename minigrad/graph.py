"""The engine: a graph of recorded operations, and one loop that walks it backwards.

Knows nothing of Tensor. A node holds the rule of one operation, the raw arrays which that rule needs, and
edges to the nodes (or leaf tensors) that its inputs came from. Whatever no rule saved is freed as soon as the
user lets go of it; after `backward` nothing of the graph is alive, without help from the cyclic collector.
"""

import functools
import inspect
import itertools
import linecache
import os
import sys
import threading
import weakref
from contextlib import ContextDecorator

import numpy as np

from kernels.arrays import as_array, is_array


class _Thread(threading.local):
    """What each thread has for itself."""

    recording = True  # False inside no_grad
    module_path = ""  # the nn.Module being called, e.g. "blocks.3.attn"; kept by nn.Module.__call__


thread = _Thread()
accumulating = threading.RLock()  # held while a leaf's gradient is added to, so that no thread loses another's part
keep_calls = None  # set by debug.check_mode: keep_calls(frame of an operation, out) -> the node's call
watcher = None  # set by debug: called as watcher(node, dout, grads) before (grads None) and after every rule
if hasattr(os, "register_at_fork"):  # the thread that held it is not in the fork
    os.register_at_fork(after_in_child=accumulating._at_fork_reinit)

_ids = itertools.count(1)
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_overwritten: dict[int, weakref.ref] = {}  # arrays whose contents a rule replaced; id -> weak reference


class Node:
    """One recorded operation.

    id        counts up in order of creation: a name for a person, and a topological order
    backward  the rule: backward(dout, **saved) -> the parents' gradients, a tuple or a single array
    parents   per input: the Node that made it, a leaf Tensor, or None where no gradient is wanted
    saved     arrays and settings by name, as the rule takes them; None once freed. A Recipe is followed when asked for
    call      in check mode the debug.Call that made it, so that it can be made again; else None
    """

    __slots__ = (
        "id", "backward", "parents", "_saved", "shape", "dtype", "grad", "hooks", "module", "call", "_code", "_at",
    )  # fmt: skip

    def __init__(self, out, parents, backward, saved):
        self.id = next(_ids)
        self.backward, self.parents, self._saved = backward, parents, saved
        self.shape, self.dtype = out.shape, out.dtype
        self.grad = self.hooks = self.call = None
        self.module = thread.module_path
        frame = sys._getframe(2)
        while frame.f_code.co_filename.startswith(_HERE) and frame.f_back:
            frame = frame.f_back
        self._code, self._at = frame.f_code, frame.f_lasti  # the line number is worked out when asked for

    @property
    def saved(self):
        saved = self._saved
        if saved is None or not any(type(value) is Recipe for value in saved.values()):
            return saved
        return {name: value() if type(value) is Recipe else value for name, value in saved.items()}

    @property
    def op(self):
        """The operation's name: its rule's, without the ending."""
        return self.backward.__name__.removesuffix("_backward")

    @property
    def source(self):
        """(file, line, text) of the line outside minigrad that made this node."""
        line = next((n for start, end, n in self._code.co_lines() if start <= self._at < end), 0)
        path = self._code.co_filename
        return path, line, linecache.getline(path, line or 0).strip()

    def __repr__(self):
        where = f" in {self.module}" if self.module else ""
        return f"<#{self.id} {self.op} {self.shape} {self.dtype}{where}>"


class Recipe:
    """An array that is not kept for a rule but made again: make(*args), from arrays that are kept, or their recipes."""

    __slots__ = ("make", "args")

    def __init__(self, make, *args):
        self.make, self.args = make, args

    def __call__(self):
        return self.make(*(arg() if type(arg) is Recipe else arg for arg in self.args))


def takes_into(parent):
    """Marks a rule that can put the gradient of parents[parent] where that leaf keeps it.

    It takes `into`: None, or (array, whether it holds a gradient already, to which must be added). The rule returns
    that array, or another one, which the engine adds as ever.
    """

    def mark(rule):
        rule.takes_into = parent
        return rule

    return mark


def adds_to(parent):
    """Marks a rule that can add its gradient of parents[parent] to the one which that node has from others already.

    It takes `beside`: None, or that array, of which it must not change anything; it returns the sum.
    """

    def mark(rule):
        rule.adds_to = parent
        return rule

    return mark


def record(out, parents, backward, saved):
    """The Node for `out` made from Tensors `parents`, or None where nothing wants a gradient."""
    if not thread.recording:
        return None
    edges, wanted = [], False
    for parent in parents:
        edge = parent.node
        if edge is None and parent.requires_grad:
            edge = parent
        wanted = wanted or edge is not None
        edges.append(edge)
    return Node(out, edges, backward, saved) if wanted else None


def backward(root, dout, retain_graph=False):
    """Run every rule from `root` down to the leaves, adding into the leaves' `.grad`.

    dout: array of root's shape. retain_graph keeps the saved arrays, for a second backward.
    Raises RuntimeError if a part of the graph was freed already, or if a rule returns a wrong shape or dtype.
    """
    for _ in steps(root, dout, retain_graph, in_place=True):
        pass


def steps(root, dout, retain_graph=False, keep_arrays=False, in_place=False):
    """`backward` one rule at a time: yields (node, dout, grads) after each.

    grads: one gradient per parent, or None. keep_arrays: no rule may overwrite what was saved. in_place: rules may put
    gradients where leaves keep them, or add to those of other rules, so that what is yielded may be a sum. A node's
    saved arrays are freed when the next step is asked for. Giving up half-way leaves the rest of the graph as it was.
    """
    order = ancestors(root)
    keep_arrays = keep_arrays or retain_graph  # somebody who runs backward again needs the arrays
    if watcher is not None:
        keep_arrays = True  # and so does somebody who looks
    for node in order:
        if node.hooks:
            keep_arrays = True
    root.grad = dout
    try:
        for node in order:
            dout, node.grad = node.grad, None
            if dout is not None:
                yield node, *_apply(node, dout, keep_arrays, in_place)
            if not retain_graph:
                node._saved, node.parents, node.hooks, node.call = None, (), None, None
    finally:
        for node in order:
            node.grad = None  # half a pass must not add into the next one


def _apply(node, dout, keep_arrays, in_place):
    """Perform the rule of one node and hand its results to the parents.

    Returns dout as hooks left it, and the results, one per parent.
    """
    try:
        if in_place and hasattr(node.backward, "takes_into"):
            with accumulating:  # from the look at what the leaf holds until it holds the new gradient
                return _perform(node, dout, keep_arrays, in_place)
        return _perform(node, dout, keep_arrays, in_place)
    except Exception as error:
        error.add_note(_describe(node, dout))
        raise


def _perform(node, dout, keep_arrays, in_place):
    if node.hooks:
        dout = run_hooks(node.hooks, dout)
    if _overwritten:
        _refuse_overwritten(node._saved)
    saved = node.saved
    if keep_arrays and saved.get("overwrite"):
        saved = {**saved, "overwrite": False}
    into = None
    if in_place and watcher is None:
        into = _room(node)
        if into:
            saved = {**saved, "into": into}
        beside = _taken_grad(node)
        if beside is not None:
            saved = {**saved, "beside": beside}
    if watcher is not None:
        watcher(node, dout, None)
    grads = node.backward(dout, **saved)
    grads = grads if type(grads) is tuple else (grads,)
    if watcher is not None:
        watcher(node, dout, grads)
    for parent, grad in zip(node.parents, grads, strict=True):
        if parent is None or grad is None:
            continue
        grad = as_array(grad)
        if grad.shape != parent.shape or grad.dtype != parent.dtype:
            raise RuntimeError(
                f"{node.op}_backward returned a gradient of {grad.shape} {grad.dtype} "
                f"for an input of {parent.shape} {parent.dtype}"
            )
        if into and grad is into[0]:
            parent.grad = grad
        elif isinstance(parent, Node):  # never in place: the first gradient may be dout itself, or be shared
            parent.grad = grad if parent.grad is None else as_array(parent.grad + grad)
        else:
            parent.accumulate_grad(grad)
    return dout, grads


def _room(node):
    """Where the node's rule may put the gradient of a leaf itself, (array, whether it holds one already), or None."""
    which = getattr(node.backward, "takes_into", None)
    leaf = None if which is None else node.parents[which]
    if leaf is None or isinstance(leaf, Node) or sum(parent is leaf for parent in node.parents) > 1:
        return None  # a leaf that is another input too, as in linear(w, w), gets that input's gradient first
    return leaf.room()


def _taken_grad(node):
    """The gradient of a parent node that this rule adds to, taken from there; None if there is none."""
    which = getattr(node.backward, "adds_to", None)
    parent = None if which is None else node.parents[which]
    if not isinstance(parent, Node):
        return None
    beside, parent.grad = parent.grad, None
    return beside


def ancestors(root):
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


def leaves(root):
    """The leaf Tensors below a node, each once."""
    edges = {id(parent): parent for node in ancestors(root) for parent in node.parents}
    return [edge for edge in edges.values() if edge is not None and not isinstance(edge, Node)]


def run_hooks(hooks, grad):
    """Pass a gradient through hooks: each may return a replacement, or None to leave it as it is."""
    for hook in tuple(hooks):
        replaced = hook(grad)
        if replaced is not None:
            replaced = np.asarray(replaced, dtype=grad.dtype, like=grad)
            if replaced.shape != grad.shape:
                raise RuntimeError(f"a hook turned a gradient of shape {grad.shape} into one of {replaced.shape}")
            grad = replaced
    return grad


def mark_overwritten(array):
    """Note that a rule replaced the contents of `array`: any later rule that saved it, or a view of it, raises."""
    owner = _owner(array)
    key = id(owner)
    _overwritten[key] = weakref.ref(owner, lambda _: _overwritten.pop(key, None))


def _owner(array):
    """The array whose memory `array` shows: itself, unless it is a view."""
    while is_array(array) and type(array.base) is type(array):
        array = array.base
    return array


def _refuse_overwritten(saved):
    for name, value in saved.items():
        needed = value.args if type(value) is Recipe else (value,)
        if any(id(_owner(array)) in _overwritten for array in needed):
            raise RuntimeError(f"saved array {name!r} was overwritten by an earlier rule (overwrite=True)")


def _describe(node, dout):
    path, line, text = node.source
    arrays = ", ".join(f"{k} {v.shape}" for k, v in (node._saved or {}).items() if is_array(v))
    where = f" in module {node.module}" if node.module else ""
    return (
        f"during backward of node #{node.id}, {node.op}{where}, made at {path}:{line}\n"
        f"    {text}\n  dout {dout.shape}, saved: {arrays or 'nothing'}"
    )


class no_grad(ContextDecorator):
    """Record nothing in this thread inside: a `with` block or, as `@no_grad()`, a whole function or generator."""

    def __init__(self):
        self._before = []

    def __enter__(self):
        self._before.append(thread.recording)
        thread.recording = False

    def __exit__(self, *error):
        thread.recording = self._before.pop()

    def __call__(self, function):
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def start(*args, **kwargs):
            return _unrecorded(function(*args, **kwargs))

        return start

    def _recreate_cm(self):
        return no_grad()  # a call of the function within itself, or in another thread, has its own


def _unrecorded(generator):
    """The same generator, run inside no_grad: from one `yield` to the next, but not while its caller has control."""
    resume, value = generator.send, None
    while True:
        try:
            with no_grad():
                result = resume(value)
        except StopIteration as end:
            return end.value
        try:
            resume, value = generator.send, (yield result)
        except GeneratorExit:
            with no_grad():
                generator.close()
            raise
        except BaseException as error:
            resume, value = generator.throw, error
