"""docs/backward: every operation has its page, and what the pages quote, claim and tell pdb to do is true.

The quoted code equals the source; each page's program runs and its assertions hold; its pdb session stops in the named
backward function and no command of it fails. `explain` prints the gists, and says what it can where no page is.
"""

import ast
import bdb
import importlib
import io
import pdb
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import ops
from minigrad.debug import explain, explanation
from minigrad.ops.nn import layernorm_backward

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "backward").glob("[!R]*.md")}
SECTIONS = ["Formula", "Backward", "Derivation", "Code", "Numerical notes", "Try it"]
each_page = pytest.mark.parametrize("op", sorted(PAGES))


def section(op, name):
    """The text below a heading, to the next one."""
    return re.split(r"^## .+$", PAGES[op], flags=re.M)[1 + SECTIONS.index(name)]


def block(text, language):
    """The content of the only code block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return found


def rule_of(op):
    return "getitem_backward" if op == "split" else f"{op}_backward"


def program(op):
    return block(section(op, "Try it"), "python")


def functions(path):
    """Whole source lines of the functions of a file, by name."""
    text = (ROOT / path).read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {node.name: "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]) for node in nodes}


# ---------------------------------------------------------------------------------------------- pages


def test_every_operation_has_a_page_and_every_page_an_operation():
    assert sorted(PAGES) == sorted(ops.__all__)


@each_page
def test_a_page_has_its_sections_and_a_gist_of_one_sentence(op):
    title, empty, gist, after = PAGES[op].split("\n")[:4]
    assert (title, empty, after) == (f"# {op}", "", "")
    assert gist.endswith(".") and not re.search(r"[.!?] ", gist)
    assert re.findall(r"^## (.+)$", PAGES[op], re.M) == SECTIONS
    for name in SECTIONS:
        assert section(op, name).strip(), name
    for name in ("Formula", "Backward"):
        assert block(section(op, name), "text")


@each_page
def test_quoted_code_equals_the_source_it_names(op):
    code = section(op, "Code")
    quotes = re.findall(r"^\[`(.+?)`\]\(\.\./\.\./(.+?)\), `(\w+)`:\n\n```python\n(.*?)\n```$", code, re.M | re.S)
    assert len(quotes) == code.count("```python"), "a block without a line that names its source"
    for shown, path, name, quoted in quotes:
        assert shown == path
        assert quoted == functions(path).get(name), f"docs/backward/{op}.md quotes another {name} than {path} has"
    assert rule_of(op) in {name for _, _, name, _ in quotes}


def test_links_lead_somewhere():
    for path in (ROOT / "docs" / "backward").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_index_has_every_gist():
    index = (ROOT / "docs" / "backward" / "README.md").read_text(encoding="utf-8")
    expected = [f"* [{op}]({op}.md): {page.splitlines()[2]}" for op, page in PAGES.items()]
    assert sorted(re.findall(r"^\* \[.+$", index, re.M)) == sorted(expected)


# ---------------------------------------------------------------------------------------------- programs


@each_page
def test_the_program_runs_and_its_assertions_hold(op):
    assert "assert " in program(op)
    with kernels.use("reference"):
        exec(compile(program(op), f"{op}.md", "exec"), {"__name__": "__main__"})


@each_page
def test_the_program_fails_when_the_backward_function_is_wrong(op, monkeypatch):
    name = rule_of(op)
    module = sys.modules[getattr(ops, name.removesuffix("_backward")).__module__]
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda dout, **saved: right(dout + dout, **saved))
    with kernels.use("reference"), pytest.raises(AssertionError):
        exec(compile(program(op), f"{op}.md", "exec"), {"__name__": "__main__"})


class Debugger(pdb.Pdb):
    """pdb with its commands in a string; notes the code that each `continue` stopped in, and where it was left."""

    def __init__(self, commands):
        super().__init__(stdin=io.StringIO("\n".join(commands) + "\nquit\n"), stdout=io.StringIO(), readrc=False)
        self.use_rawinput, self.prompt, self.stops = False, "", []

    def interaction(self, frame, traceback):
        module, name = frame.f_globals.get("__name__"), frame.f_code.co_name
        self.stops.append(f"{module}.{name}")
        return super().interaction(frame, traceback)


@each_page
def test_the_pdb_session_stops_in_the_backward_function_and_no_command_fails(op):
    lines = block(section(op, "Try it").split("python -m pdb", 1)[1], "text").splitlines()
    commands = [line.removeprefix("(Pdb) ").split("  #")[0] for line in lines]
    bdb.Breakpoint.clearBreakpoints()  # pdb keeps them per process, and a new debugger begins with them
    debugger = Debugger(commands)
    with kernels.use("reference"):
        debugger.run(compile(program(op), f"{op}.md", "exec"), {"__name__": "__main__"})
    output = debugger.stdout.getvalue()
    assert "***" not in output, output
    named = re.match(r"import (\S+)\nbreak \1\.(\w+)\n|from (\S+) import (\w+)\nbreak \4\n", "\n".join(commands))
    module, name = filter(None, named.groups())
    assert debugger.stops[1] == f"{module}.{name}"  # the first stop is the program's first line
    assert f"`{name}`" in section(op, "Code")
    assert output.count("\n") > len(commands), output  # the debugger was not left before the last `p`
    assert "finished" not in output and debugger.stops[-1].split(".")[0] in ("minigrad", "kernels")


# ---------------------------------------------------------------------------------------------- explain


@each_page
def test_explain_gives_gist_formula_and_backward_function_of_a_page(op):
    text = explanation(op)
    assert text.startswith(f"{op}: {PAGES[op].splitlines()[2]}")
    for name in ("Formula", "Backward"):
        for line in block(section(op, name), "text").splitlines():
            assert line in text


def test_name_function_backward_function_and_other_library_s_name_give_the_same():
    expected = explanation("layernorm")
    for what in ("layernorm_backward", ops.layernorm, mg.functional.layernorm, layernorm_backward):
        assert explanation(what) == expected
    assert explanation("cat") == explanation(mg.cat) == explanation("concatenate")


def test_explain_of_a_node_adds_its_shapes_and_its_line(capsys):
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    out = mg.softmax(x, axis=1)  # this line
    explain(out.node)
    text = capsys.readouterr().out
    assert f"<#{out.node.id} softmax (2, 3) float64>" in text
    assert "test_backward_pages.py:" in text and "out = mg.softmax(x, axis=1)  # this line" in text
    assert "inputs: (2, 3) float64\n  saved: out (2, 3) float64, axis = 1\n" in text
    assert text.endswith(explanation("softmax") + "\n")
    node = out.node
    out.sum().backward()
    assert "are freed" in explanation(node) and explanation(node).endswith(explanation("softmax"))
    assert explanation(out).startswith("<#")  # a Tensor stands for its node


def tanh(x):
    """Somebody's own operation, by a name that is taken."""
    return mg.record(np.tanh(x.data), (x,), tanh_backward, x=x.data)


def tanh_backward(dout, x):
    return dout / np.cosh(x) ** 2


def test_an_operation_of_one_s_own_shows_its_docstring_and_backward_function():
    out = tanh(mg.tensor([1.0], requires_grad=True))
    for what in (out.node, tanh, tanh_backward):
        text = explanation(what)
        assert "Somebody's own operation" in text and "return dout / np.cosh(x) ** 2" in text
        assert "docs" not in text.split("Somebody's")[1]


def test_without_the_pages_docstring_and_backward_function_are_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("minigrad.debug.explanations"), "PAGES", tmp_path)
    for what in ("softmax", ops.softmax, mg.tensor([1.0], requires_grad=True).softmax(dim=0).node):
        text = explanation(what)
        assert "exp(x) / sum(exp(x))" in text
        assert "return out * (dout - accurate_sum(dout * out, axis, keepdims=True))" in text
    for op in ops.__all__:
        assert (getattr(ops, op).__doc__.splitlines()[0]) in explanation(op)


def test_a_backward_function_without_source_is_still_explained():
    namespace = {"__name__": "__main__"}
    exec('def cube_backward(dout, x):\n    """3 x^2."""\n    return dout * 3 * x**2', namespace)
    text = explanation(namespace["cube_backward"])
    assert "no source of cube_backward" in text


@pytest.mark.parametrize(
    ("wrong", "meant"), [("layer_nrom", "layer_norm"), ("sofmax", "softmax"), ("matmull", "matmul")]
)
def test_an_unknown_name_says_what_may_have_been_meant(wrong, meant):
    with pytest.raises(ValueError, match=rf"no operation '{wrong}'; did you mean .*{meant}"):
        explanation(wrong)


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(ValueError, match=r"no operation 'zzzzzz'$"):
        explanation("zzzzzz")
    for what in (3, mg.tensor([1.0]), np.ones(2)):
        with pytest.raises(TypeError, match="takes a Node, an operation's name, its function or its backward function"):
            explanation(what)
