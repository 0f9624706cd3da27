"""Imports point one way: cudasim <- kernels <- minigrad <- tiny_transformer_np <- train.py; no framework, no pickle.

cudasim knows nothing of the others; cudagates looks at the kernels, and no package needs it.

Read from the source, so that an import inside a function counts as well.
"""

import ast
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# each may import those before it
LAYERS = ("cudasim", "tiny_transformer_np_package_check", "kernels", "minigrad", "tiny_transformer_np", "train")
ASIDE = {"cudagates": "kernels"}  # may import what that layer may, and that layer; none imports it
PEERS = {"torch", "jax", "tensorflow", "mlx", "tinygrad", "autograd"}  # for tests and benchmarks to compare with
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve"}  # loading one runs its code


def imported(source):
    """Full names of the modules that this source imports from elsewhere, however deep inside a function."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names.update(arg.value for arg in node.args if isinstance(arg, ast.Constant))
    return names


def complaints(path, source):
    """What this file imports and should not; `path` is relative to the root of the repository."""
    package = path.parts[0].removesuffix(".py")
    layer = ASIDE.get(package, package)
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) if layer in LAYERS else set()
    forbidden = above | set(ASIDE) - {package} | PEERS | PICKLES | {"tests", "benchmarks"}
    return [f"{path} imports {name}" for name in sorted(imported(source)) if name.split(".")[0] in forbidden]


def our_files():
    """Every Python file of the repository that is neither a test nor a benchmark."""
    folders = [ROOT / layer for layer in (*LAYERS, *ASIDE) if (ROOT / layer).is_dir()]
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    return [file.relative_to(ROOT) for file in sorted(files)]


def test_imports_point_one_way():
    files = our_files()
    assert {"cudagates", "cudasim", "kernels", "minigrad"} <= {file.parts[0] for file in files}
    assert [line for file in files for line in complaints(file, (ROOT / file).read_text(encoding="utf-8"))] == []


def test_the_simulator_names_nothing_of_the_project():
    """Neither its code nor its page: it could move to a repository of its own."""
    named = re.compile(
        r"kernels/|kernels\.(cuda|cpu|system)|minigrad|tiny_transformer_np|cudagates|\b(common|ptx)\.cuh"
    )
    files = [path for path in sorted((ROOT / "cudasim").rglob("*.*")) if "__pycache__" not in path.parts]
    assert len(files) > 20
    found = [f"{path.relative_to(ROOT)}: {line.strip()}" for path in files
             for line in path.read_text(encoding="utf-8").splitlines() if named.search(line)]  # fmt: skip
    assert found == []


def test_the_engine_does_not_know_the_tensor():
    """graph.py is the whole engine, and knows nodes and arrays only, of whichever device; its type hints name more."""
    engine = ast.parse((ROOT / "minigrad/graph.py").read_text(encoding="utf-8"))
    engine.body = [node for node in engine.body if not ast.unparse(node).startswith("if TYPE_CHECKING:")]
    names = imported(ast.unparse(engine))
    assert {name for name in names if name.split(".")[0] in ("minigrad", "kernels")} == {"kernels.arrays"}


def hidden_modules(root):
    """Modules of a package and its subpackages that one can import, but whose name in the package is something else."""
    hidden = []
    for found in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
        package, name = found.name.rsplit(".", 1)
        if name == "__main__":
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:  # an old name, which says so; or a module for a device that is not here
            continue
        if getattr(sys.modules[package], name) is not module:
            hidden.append(found.name)
    return hidden


@pytest.mark.parametrize("root", ["cudagates", "cudasim", "kernels", "minigrad", "tiny_transformer_np"])
def test_no_function_hides_the_module_of_its_name(root, tmp_path, monkeypatch):
    """Else `import minigrad.tensor` gives a class, and a debugger cannot name the module."""
    assert hidden_modules(root) == []
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding/__init__.py").write_text("from hiding.f import f")
    (tmp_path / "hiding/f.py").write_text("def f():\n    pass")
    monkeypatch.syspath_prepend(tmp_path)
    assert hidden_modules("hiding") == ["hiding.f"]


def mentions_of_layers_above(layer, text):
    """The names of packages and programs above this layer in a file's text, in comments and messages too."""
    names = LAYERS[LAYERS.index(layer) + 1 :]
    return [name for name in names if re.search(rf"\b{name}(\.py)?\b" if name != "train" else r"\btrain\.py\b", text)]


def test_minigrad_names_nothing_above_it():
    """A message there that must name a command gets the name from its caller."""
    files = [file for file in our_files() if file.parts[0] == "minigrad"]
    texts = {str(file): (ROOT / file).read_text(encoding="utf-8") for file in files}
    found = {file: mentions_of_layers_above("minigrad", text) for file, text in texts.items()}
    assert not {file: names for file, names in found.items() if names}
    assert mentions_of_layers_above("minigrad", '"""See train.py."""') == ["train"]
    assert mentions_of_layers_above("minigrad", "# tiny_transformer_np.model does") == ["tiny_transformer_np"]
    assert mentions_of_layers_above("minigrad", "train_step, tiny_transformer_np_package_check") == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cudasim/x.py", "from kernels.system import cache"),
        ("cudasim/x.py", "import tiny_transformer_np_package_check"),
        ("cudagates/x.py", "import minigrad"),
        ("kernels/x.py", "import cudagates.expectations"),
        ("kernels/cpu/x.py", "import minigrad"),
        ("kernels/x.py", "def f():\n    from minigrad._tensor import Tensor"),
        ("kernels/x.py", "import importlib\nimportlib.import_module('tiny_transformer_np.model')"),
        ("minigrad/x.py", "import numpy, tiny_transformer_np.model as m"),
        ("minigrad/x.py", "import train"),
        ("tiny_transformer_np/x.py", "from train import main"),
        ("tiny_transformer_np/x.py", "if True:\n    import torch.nn as nn"),
        ("train.py", "import jax"),
        ("tiny_transformer_np/x.py", "from pickle import load"),
    ],
)
def test_the_check_finds_a_wrong_import(path, source):
    assert len(complaints(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cudagates/x.py", "import kernels, cudasim"),
        ("kernels/cuda/x.py", "from cudasim import module"),
        ("kernels/cpu/x.py", "from kernels.philox import derive_key\nimport numba"),
        ("minigrad/x.py", "import kernels\nfrom . import graph\nfrom minigrad._tensor import Tensor"),
        ("train.py", "import tiny_transformer_np, minigrad, kernels\nimport training_of_something_else"),
        ("minigrad/x.py", "# import torch\ntext = 'import torch'"),
    ],
)
def test_the_check_leaves_right_imports_alone(path, source):
    assert complaints(Path(path), source) == []
