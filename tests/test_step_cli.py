"""`train.py --step-backward`, a stop by `break_on` in real pdb, and the launch configurations of VS Code."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad as mg
from tiny_transformer_np.training import __main__ as program

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


FLAGS = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--seq-len", "8", "--batch-size", "2", "--max-steps", "5"]


def train(*args, stdin="", cwd=ROOT):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *FLAGS, *map(str, args)],
        cwd=cwd, input=stdin, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_command_line_opens_a_session_and_writes_nothing(text, tmp_path):
    script = "where\nnext\nstep\nimport sys\np ('compiler', 'numba' in sys.modules)\nquit\n"
    result = train("--data", text, "--step-backward", "--break-on", "blocks.0.attn", "--at-step", 3, stdin=script,
                   cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "step 3, backward" in result.stdout and "linear in blocks.0.attn.proj" in result.stdout
    assert "causal_self_attention_backward()" in result.stdout and "('compiler', False)" in result.stdout
    assert "left half-way: the weights are those of step 2" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_step_it_opens_is_that_of_training(text, tmp_path):
    trained = train("--data", text, "--kernels", "reference", "--log-interval", 1, "--sample-tokens", 0,
                    "--no-preflight", "--out-dir", tmp_path / "run")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row.get("kind") == "train" and row["step"] == 3)
    result = train("--data", text, "--step-backward", "--at-step", 3, stdin="continue\n", cwd=tmp_path)
    expected = f"step 3 is complete: loss {row['loss']:.4f}, gradient norm {row['grad_norm']:.4g}"
    assert result.returncode == 0 and expected in result.stdout
    result = train("--resume", tmp_path / "run", "--step-backward", cwd=tmp_path)
    assert result.returncode == 2 and "the run is complete at step 5; give a larger max_steps" in result.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--step-backward", "--break-on", "blocks.5"], ["break_on", "'blocks.5'", "did you mean"]),
        (["--step-backward", "--at-step", "6"], ["at_step is 6", "1 to 5"]),
        (["--at-step", "2"], ["--step-backward"]),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(text, flags, words, tmp_path):
    result = train("--data", text, *flags, cwd=tmp_path)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert all(word in result.stderr for word in words) and list(tmp_path.iterdir()) == []


def test_break_on_leads_into_the_backward_function_as_it_says(tmp_path):
    """breakpoint() in real pdb: `return`, `step`, `step`."""
    script = tmp_path / "script.py"
    script.write_text(
        "import minigrad as mg\nx = mg.tensor([1.0, 2.0], requires_grad=True)\nloss = (x * x).sum()\n"
        "mg.break_on(op='mul', when=lambda step: step.dout.shape == (2,))\nloss.backward()\nprint('grad', x.grad)\n"
    )
    commands = "print(step)\nreturn\nstep\nstep\nstep\np ('names', sorted(locals()))\ncontinue\n"
    result = subprocess.run([sys.executable, str(script)], input=commands, cwd=ROOT, capture_output=True, text=True,
                            env={"PYTHONPATH": str(ROOT), "PATH": ""}, timeout=300)  # fmt: skip
    assert "# backward comes next: `return`, then `step` twice, leads into it" in result.stdout, result.stderr
    assert "('names', ['a', 'a_shape', 'b', 'b_shape', 'dout'])" in result.stdout
    assert "    dout       (2,) float32" in result.stdout and "grad [2. 4.]" in result.stdout


def test_vs_code_configurations_start_what_exists(monkeypatch):
    launch = json.loads((ROOT / ".vscode" / "launch.json").read_text())
    defaults = {i["id"]: i["default"] for i in launch["inputs"]}
    names = [c["name"] for c in launch["configurations"]]
    assert [name.split(" (")[0] for name in names] == ["train", "step backward", "one gradient check", "tests"]
    for config in launch["configurations"]:
        args = [defaults[a[8:-1]] if a.startswith("${input:") else a for a in config["args"]]
        assert config["type"] == "debugpy" and config["cwd"] == "${workspaceFolder}"
        if "module" in config:
            assert importlib.util.find_spec(config["module"])
        else:
            assert config["program"] == "${workspaceFolder}/train.py"
            monkeypatch.setattr(sys, "argv", ["train.py", *args])
            program.parse_arguments()  # leaves with status 2 if a flag does not exist
    assert defaults["op"] in mg.ops.__all__
