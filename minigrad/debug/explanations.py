"""Explanations for the debugger: what an operation computes, and its gradient, from docs/backward/<op>.md.

    (Pdb) explain(node)          also: explain("layernorm"), explain(mg.softmax), explain(softmax_backward)

For an operation without a page, its docstrings and the source of its backward function are shown.
"""

import difflib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.arrays import is_array
from kernels.system.files import shipped
from minigrad import functional, ops
from minigrad.graph import Node

PAGES = shipped(Path(__file__).with_name("pages"), "docs/backward")


def explain(what: Any) -> None:
    """Print what `explanation` returns."""
    print(explanation(what))


def explanation(what: Any) -> str:
    """Title, gist, formula and gradient of an operation, as text; for a Node first its shapes and source line.

    what: a Node, a Tensor that has one, an operation's name, its function, or its backward function. Raises
    ValueError for a name that is no operation, and TypeError for anything else.
    """
    node = what if isinstance(what, Node) else getattr(what, "node", None)
    if isinstance(node, Node):
        return f"{_instance(node)}\n\n{_operation(node.op, node.backward)}"
    if isinstance(what, str):
        op = _named(what)
    elif inspect.isfunction(what):
        op = what
    else:
        raise TypeError(
            f"explain takes a Node, an operation's name, its function or its backward function, not {what!r:.80}"
        )
    if op.__name__.endswith("_backward"):
        return _operation(op.__name__.removesuffix("_backward"), op)
    return _operation(op.__name__, op)


def _named(name: str) -> Callable[..., Any]:
    """The operation of this name: NumPy's, PyTorch's ("cat"), or that of its backward function ("stack_backward")."""
    short = name.removesuffix("_backward")
    names = [n for n, _ in inspect.getmembers(functional, inspect.isfunction) if not n.startswith("_")]
    if short not in names:
        near = difflib.get_close_matches(short, names)
        raise ValueError(f"there is no operation {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return getattr(functional, short)


def _operation(name: str, function: Callable[..., Any]) -> str:
    """The gist of the page, or without a page the docstrings. function: the operation or its backward function."""
    page = PAGES / f"{name}.md"
    if function.__module__.startswith(ops.__name__) and name in ops.__all__ and page.is_file():
        return gist_of(page.read_text(encoding="utf-8")) + f"\n\nThe derivation: {page}"
    module = inspect.getmodule(inspect.unwrap(function))
    op, backward = getattr(module, name, None), getattr(module, f"{name}_backward", None)
    docs = [doc for f in (op, backward) if f and (doc := inspect.getdoc(f))]
    return "\n\n".join([name, *docs, _source(backward or function)])


def gist_of(page: str) -> str:
    """Title, gist, formula and gradient from a page's text."""
    title, gist = _part(r"\A# ([^\n]+)\n\n([^\n]+)\n", page)
    parts = [_part(rf"^## {name}\n\n```text\n(.*?)\n```", page) for name in ("Formula", "Backward")]
    indented = (block.replace("\n", "\n    ") for (block,) in parts)
    return "\n\n".join([f"{title}: {gist}", *(f"    {block}" for block in indented)])


def _part(pattern: str, page: str) -> tuple[str, ...]:
    match = re.search(pattern, page, re.M | re.S)
    if match is None:
        raise ValueError(f"the page {page[:40]!r} has no {pattern}")
    return match.groups()


def _instance(node: Node) -> str:
    """One node: its output, the line that made it, its inputs, and what it saved for backward."""
    path, line, text = node.source
    made = f"{node!r}\n  made at {path}:{line}\n    {text}"
    if node.saved is None:
        return f"{made}\n  inputs and saved arrays are freed: backward has been through"
    inputs = ", ".join("no gradient" if p is None else f"{p.shape} {p.dtype}" for p in node.parents)
    saved = ", ".join(f"{name} {_short(value)}" for name, value in node.saved.items())
    return f"{made}\n  inputs: {inputs}\n  saved: {saved or 'nothing'}"


def _short(value: Any) -> str:
    return f"{value.shape} {value.dtype}" if is_array(value) else f"= {value!r:.40}"


def _source(function: Callable[..., Any]) -> str:
    name = function.__name__
    try:
        source = inspect.getsource(inspect.unwrap(function)).rstrip()
    except (OSError, TypeError) as error:  # defined in a REPL
        return f"(no source of {name}: {error})"
    # what `exec` made counts as a part of `python -c`'s text, since Python 3.13
    return source if name.strip("<>") in source else f"(no source of {name})"
