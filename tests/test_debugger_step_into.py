"""Three backward functions of a real training run, entered with pdb and through the protocol that VS Code speaks.

At each stop every saved array is read by its name, lines are stepped, and the run goes on to its end, which is the
same as without a debugger.
"""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import ops
from tiny_transformer_np.training import checkpoint

ROOT = Path(__file__).parent.parent
B, T, C, H, V = 2, 8, 16, 2, 45
FLAGS = ["--n-layer", "2", "--n-embd", str(C), "--n-head", str(H), "--seq-len", str(T), "--batch-size", str(B),
         "--max-steps", "2", "--sample-tokens", "0", "--kernels", "reference", "--no-preflight"]  # fmt: skip
# backward function -> shapes of what it saved; in the order in which backward calls them
SAVED = {
    "softmax_cross_entropy_backward": {"logits": (B, T, V), "targets": (B, T), "logsumexp": (B, T, 2), "divisor": ()},
    "layernorm_backward": {"x": (B, T, C), "weight": (C,), "mean": (B, T), "rstd": (B, T)},
    "causal_self_attention_backward": {"qkv": (B, T, 3 * C), "out": (B, T, C), "logsumexp": (B, H, T)},
}
KERNELS = {backward: backward.replace("causal_self_", "") for backward in SAVED}
HOMES = {kernel: f"kernels.{kernel.removesuffix('_backward')}.reference" for kernel in KERNELS.values()}
DOUT = {"softmax_cross_entropy_backward": ()}  # of the others: (B, T, C)


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Flags of a run on a text of V characters."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("".join(chr(ord("A") + i) for i in range(V)) * 30)
    return [*FLAGS, "--data", str(path)]


@pytest.fixture(scope="module")
def undisturbed(flags, tmp_path_factory):
    """The weights after a run that nobody looked into."""
    out = tmp_path_factory.mktemp("plain") / "run"
    subprocess.run([sys.executable, "train.py", *flags, "--out-dir", str(out)], cwd=ROOT, check=True, timeout=300)
    return weights(out)


def weights(out):
    arrays, _ = checkpoint.load(out / "checkpoints" / "latest.safetensors")
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.pdb
def test_pdb(flags, undisturbed, tmp_path):
    homes = [getattr(ops, backward.removesuffix("_backward")).__module__ for backward in SAVED]
    commands = [f"import {', '.join([*homes, *HOMES.values()])}"]
    commands += [f"tbreak {home}.{backward}" for home, backward in zip(homes, SAVED, strict=True)]
    commands += [f"tbreak {home}.{kernel}" for kernel, home in HOMES.items()]
    for backward, saved in SAVED.items():
        commands += ["continue", *(f"p ('{backward} {name}', type({name}).__name__, {name}.shape)" for name in saved)]
        commands += [f"p ('{backward} dout', dout.shape)", "continue", "next", "next", "next", "where"]
    result = subprocess.run(
        [sys.executable, "-m", "pdb", "train.py", *flags, "--out-dir", str(tmp_path / "run")],
        cwd=ROOT, input="\n".join([*commands, "continue", "quit"]) + "\n", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    output = result.stdout
    for backward, saved in SAVED.items():
        assert re.search(rf"\w+\.py\(\d+\){backward}\(\)\n-> ", output), output
        assert all(f"('{backward} {name}', 'ndarray', {shape})" in output for name, shape in saved.items()), output
        assert f"('{backward} dout', {DOUT.get(backward, (B, T, C))})" in output
        lines = re.findall(rf"> \S+reference\.py\((\d+)\){KERNELS[backward]}\(\)", output)
        assert len(set(lines)) >= 4  # where it stopped, and three lines further on
    assert "finished at step 2" in output and "exited via sys.exit(). Exit status: 0" in output
    assert weights(tmp_path / "run") == undisturbed


def first_line(function):
    """Of its body: a decorator is where a function begins."""
    code = function.__code__
    return min(line for *_, line in code.co_lines() if line and line > code.co_firstlineno)


def test_debug_adapter(flags, undisturbed, tmp_path):
    """Breakpoints on lines, variables, evaluate, step in, step over, continue: what the buttons of VS Code do."""
    from dap_client import Debugger

    places = {}  # backward function -> (file, line)
    for backward in SAVED:
        home = sys.modules[getattr(ops, backward.removesuffix("_backward")).__module__]
        places[backward] = inspect.getsourcefile(home), first_line(getattr(home, backward))
    with Debugger(ROOT / "train.py", [*flags, "--out-dir", str(tmp_path / "run")], ROOT) as debugger:
        for source, line in places.values():
            debugger.break_at(source, [line])
        debugger.start()
        for backward, saved in SAVED.items():
            thread, frame = debugger.stopped()
            assert (frame["name"], frame["source"]["path"], frame["line"]) == (backward, *places[backward])
            shown = debugger.variables(frame)
            for name, shape in {**saved, "dout": DOUT.get(backward, (B, T, C))}.items():
                assert "array(" in shown[name], shown
                assert debugger.evaluate(f"{name}.shape", frame) == str(shape)
            debugger.break_at(places[backward][0], [])  # each of them once
            visited = set()
            for command in ["stepIn", "stepIn", "stepIn", "next"]:
                debugger.request(command, threadId=thread)
                _, frame = debugger.stopped()
                visited.add(frame["name"])
            assert visited - {backward}, visited  # it went into something
            debugger.request("continue", threadId=thread)
        debugger.wait_for("terminated")
        assert debugger.exit_code == 0, debugger.output
    assert "finished at step 2" in debugger.output
    assert weights(tmp_path / "run") == undisturbed
