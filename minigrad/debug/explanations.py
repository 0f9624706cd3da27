"""What an operation does and how its gradient comes about, in a debugger: the gist of docs/backward/<op>.md.

    (Pdb) explain(node)          also: explain("layernorm"), explain(mg.softmax), explain(softmax_backward)

For your own operations, which have no page, the docstrings and the rule's source are shown instead.
"""

import difflib
import inspect
import re
from pathlib import Path

from kernels.arrays import is_array
from kernels.system.files import shipped
from minigrad import functional, ops
from minigrad.graph import Node

PAGES = shipped(Path(__file__).with_name("pages"), "docs/backward")


def explain(what):
    """Print the explanation of a Node (or a Tensor that has one), an operation's name, its function or its rule."""
    print(explanation(what))


def explanation(what):
    """The text that `explain` prints: title, gist, formula and rule; for a Node first its shapes and source line.

    Raises ValueError for a name that is no operation, and TypeError for anything else that cannot be explained.
    """
    node = what if isinstance(what, Node) else getattr(what, "node", None)
    if isinstance(node, Node):
        return f"{_instance(node)}\n\n{_operation(node.op, node.backward)}"
    if isinstance(what, str):
        op = _named(what)
    elif inspect.isfunction(what):
        op = what
    else:
        raise TypeError(f"explain takes a Node, an operation's name, its function or its rule, not {what!r:.80}")
    if op.__name__.endswith("_backward"):
        return _operation(op.__name__.removesuffix("_backward"), op)
    return _operation(op.__name__, op)


def _named(name):
    """The operation of this name, PyTorch's names included, e.g. "cat"; or the rule, if the name is a rule's."""
    short = name.removesuffix("_backward")
    names = [n for n, _ in inspect.getmembers(functional, inspect.isfunction) if not n.startswith("_")]
    if short not in names:
        near = difflib.get_close_matches(short, names)
        raise ValueError(f"there is no operation {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return getattr(functional, short)


def _operation(name, function):
    """The page's gist, or what can be said without the page. function: the operation or its rule."""
    page = PAGES / f"{name}.md"
    if function.__module__.startswith(ops.__name__) and name in ops.__all__ and page.is_file():
        return gist_of(page.read_text(encoding="utf-8")) + f"\n\nThe derivation: {page}"
    module = inspect.getmodule(inspect.unwrap(function))
    op, rule = getattr(module, name, None), getattr(module, f"{name}_backward", None)
    docs = [doc for f in (op, rule) if f and (doc := inspect.getdoc(f))]
    return "\n\n".join([name, *docs, _source(rule or function)])


def gist_of(page):
    """Title, gist, formula and rule of a page's text."""
    title, gist = re.match(r"# (.+)\n\n(.+)\n", page).groups()
    blocks = [re.search(rf"^## {name}\n\n```text\n(.*?)\n```", page, re.M | re.S)[1] for name in ("Formula", "Rule")]
    indented = (block.replace("\n", "\n    ") for block in blocks)
    return "\n\n".join([f"{title}: {gist}", *(f"    {block}" for block in indented)])


def _instance(node):
    """This very node: what came out, where it was made, and what was saved for the rule."""
    path, line, text = node.source
    made = f"{node!r}\n  made at {path}:{line}\n    {text}"
    if node.saved is None:
        return f"{made}\n  inputs and saved arrays are freed: backward has been through"
    inputs = ", ".join("no gradient" if p is None else f"{p.shape} {p.dtype}" for p in node.parents)
    saved = ", ".join(f"{name} {_short(value)}" for name, value in node.saved.items())
    return f"{made}\n  inputs: {inputs}\n  saved: {saved or 'nothing'}"


def _short(value):
    return f"{value.shape} {value.dtype}" if is_array(value) else f"= {value!r:.40}"


def _source(function):
    name = function.__name__
    try:
        source = inspect.getsource(inspect.unwrap(function)).rstrip()
    except (OSError, TypeError) as error:  # defined in a REPL
        return f"(no source of {name}: {error})"
    # what `exec` made counts as a part of `python -c`'s text, since Python 3.13
    return source if name.strip("<>") in source else f"(no source of {name})"
