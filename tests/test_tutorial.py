"""docs/tutorial.ipynb: it runs, its networks learn, and it is PyTorch as it is written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
IN_PYTORCH = {
    "import minigrad as mg": "import torch as mg",
    "import minigrad.functional as F": "import torch.nn.functional as F",
    "from minigrad import nn, optim": "from torch import nn, optim",
}


def assert_learned(printed):
    """What the networks print: the moons are told apart, the pictures nearly, and the rhyme is known by heart."""
    assert re.search(r"step 200  loss 0\.0\d+  accuracy (1\.000|0\.99\d)", printed), printed
    assert float(re.search(r"epoch 5  loss (\S+)", printed)[1]) < 0.3, printed
    assert "This is the house that Jack built.\nThis is the " in printed, printed


@pytest.mark.slow
@pytest.mark.docs
def test_the_tutorial_runs_and_its_networks_learn():
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert_learned("".join(output.text for output in outputs if output.output_type == "stream"))
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


@pytest.mark.slow
@pytest.mark.pytorch
def test_the_tutorial_is_pytorch_as_it_is_written():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    program = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for name, twin in IN_PYTORCH.items():
        assert program.count(name) == 1
        program = program.replace(name, twin)
    assert "minigrad" not in program
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert_learned(ran.stdout)
