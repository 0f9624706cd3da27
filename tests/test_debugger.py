"""A breakpoint set by name on a backward function stops there while train.py runs, with the saved arrays as locals."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.pdb


def pdb(commands, *train_flags):
    """Run train.py under python -m pdb with these commands on stdin -> stdout."""
    flags = ["--n-layer", "2", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "2", "--max-steps",
             "2", "--kernels", "reference", "--no-preflight", *train_flags]  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "pdb", "train.py", *flags],
        cwd=ROOT, input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return result.stdout


def test_breakpoint_on_a_backward_function_stops_on_the_main_thread_with_the_saved_arrays(tmp_path):
    output = pdb(
        [
            "import minigrad.ops.nn",
            "break minigrad.ops.nn.layernorm_backward",
            "continue",
            "p ('locals', sorted(locals()))",
            "p ('x', type(x).__name__, x.shape, x.dtype.name, 'dout', dout.shape)",
            "import threading",
            "p ('main thread', threading.current_thread() is threading.main_thread())",
            "up",
            "p ('engine', node.op, node.module)",
            "quit",
        ],
        "--out-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert "layernorm_backward(" in output  # pdb shows the frame it stopped in
    assert "('locals', ['dout', 'has_bias', 'mean', 'rstd', 'slot', 'weight', 'x'])" in output
    assert "('x', 'ndarray', (2, 8, 16), 'float32', 'dout', (2, 8, 16))" in output
    assert "('main thread', True)" in output
    assert (
        "('engine', 'layernorm', 'TransformerLM.ln_final')" in output or "('engine', 'layernorm', 'ln_final')" in output
    )


def test_stepping_into_the_backward_function_reaches_the_plain_kernel(tmp_path):
    output = pdb(
        [
            "import kernels.softmax_cross_entropy.reference",
            "break kernels.softmax_cross_entropy.reference.softmax_cross_entropy_backward",
            "continue",
            "p ('names', 'logits' in locals(), 'targets' in locals(), 'logsumexp' in locals())",
            "where",
            "quit",
        ],
        "--out-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert "('names', True, True, True)" in output
    assert "trainer.py" in output and "train_step()" in output and "graph.py" in output  # all in one Python stack
