"""Write the signatures of Tensor's methods into minigrad/tensor_methods.py: python tests/minigrad/method_signatures.py

Which methods there are, the file itself says: a new one is a line `def median(self): ...` anywhere in its class. Their
signatures are those of the functions of these names, without the first parameter.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parents[2] / "minigrad" / "tensor_methods.py"
BEGIN = "    __slots__ = ()\n"


def names(text):
    """The methods that the file has, functions and second names alike."""
    (body,) = (node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    found = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return found | {t.id for node in body if isinstance(node, ast.Assign) for t in node.targets} - {"__slots__"}


def definitions(name, function):
    """The lines of a method: the function's overloads, if it has any, or its signature."""
    function = inspect.unwrap(function)
    module = ast.parse(Path(inspect.getfile(function)).read_text(encoding="utf-8"))
    nodes = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == function.__name__]
    overloads = [node for node in nodes if "overload" in map(ast.unparse, node.decorator_list)]
    for node in overloads or nodes[-1:]:
        (node.args.posonlyargs or node.args.args)[0] = ast.arg("self")
        mark = "    @overload\n" if overloads else ""
        yield f"{mark}    def {name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}: ..."
    if overloads:
        yield f"    def {name}(self, *args: Any, **kwargs: Any) -> Any: ..."


def written(text, functions):
    """The text of the file with the signatures of `functions`, {name: function}."""
    own = {name: function for name, function in functions.items() if name == function.__name__}
    lines = [line for name in sorted(own) for line in definitions(name, own[name])]
    lines += [f"    {name} = {functions[name].__name__}" for name in sorted(functions.keys() - own.keys())]
    text = text[: text.index(BEGIN) + len(BEGIN)] + "\n" + "\n".join(lines) + "\n"
    command = [sys.executable, "-m", "ruff", "format", "--config", str(FILE.parents[1] / "pyproject.toml"), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True).stdout


def current():
    """(the text of the file, what it has to be)."""
    from minigrad import functional

    text = FILE.read_text(encoding="utf-8")
    return text, written(text, {name: getattr(functional, name) for name in names(text)})


if __name__ == "__main__":
    FILE.write_text(current()[1], encoding="utf-8")
