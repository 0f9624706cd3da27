"""The engine stays small: lines of code, without comments and docstrings, and the mechanisms that it is made of."""

import ast
import inspect
import io
import re
import tokenize
from pathlib import Path

import pytest

from minigrad import graph

ENGINE = Path(graph.__file__).parent
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source):
    """Numbers of the lines that hold code. An operator of one line, `def __add__(...): return ...`, does not count."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if ast.get_docstring(node) is not None:
                lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
            if isinstance(node, ast.FunctionDef) and node.lineno == node.end_lineno:
                lines.discard(node.lineno)
    return lines


def test_the_counter_counts():
    source = '"""Docs,\ntwo lines."""\n\nx = (1,\n     2)  # comment\n\n\ndef f():\n    """Docs."""\n'
    source += "    # no\n    return 1\n"
    assert code_lines(source + "def __add__(self, other): return 1\n") == {4, 5, 8, 11}


@pytest.mark.parametrize(("name", "limit"), [("graph.py", 260), ("_tensor.py", 200)])
def test_the_engine_has_few_lines(name, limit):
    assert len(code_lines((ENGINE / name).read_text(encoding="utf-8"))) <= limit


def test_one_node_of_backward_is_a_short_function_without_special_cases():
    source = inspect.getsource(graph._perform)
    assert len(source.splitlines()) <= 30 and "isinstance" not in source


def test_the_docstring_lists_at_most_five_mechanisms():
    mechanisms = re.findall(r"^(\w+) {2,}\S", graph.__doc__, re.M)
    assert 0 < len(mechanisms) <= 5
    assert {"GradSlot", "Recompute", "observer"} <= set(mechanisms)
