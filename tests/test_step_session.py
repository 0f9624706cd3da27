"""The interactive session on one training step: every command, both kernel sets, and leaving it early.

In this process, on scripted streams; see test_step_cli.py for the command line.
"""

import io
import re
import sys

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import graph
from minigrad.debug import check_mode
from minigrad.debug.session import Abandoned, NoSuchNode, Session
from tiny_transformer_np.config import TrainingConfig
from tiny_transformer_np.training.build_trainer import build_trainer

SHAPE = {"n_layer": 2, "n_embd": 16, "n_head": 2}
TRAINING = {"seq_len": 8, "batch_size": 2, "max_steps": 6, "warmup_steps": 1, "learning_rate": 1e-2, "min_lr": 1e-3}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


@pytest.fixture
def trainer(text):
    return make_trainer(text)


def make_trainer(text, **changes):
    return build_trainer(SHAPE, TrainingConfig(data=(str(text),), **TRAINING | changes))


def session_on(trainer, *commands, break_on=None):
    """One training step with these commands -> what was printed. Raises Abandoned when left early."""
    out = io.StringIO()
    names = dict(trainer.model.named_parameters())
    session = Session(break_on, names, stdin=io.StringIO("\n".join(commands) + "\n"), stdout=out)
    trainer.backward = session.backward
    try:
        with check_mode():
            trainer.train_step()
    except Abandoned:
        out.write("ABANDONED")
    finally:
        del trainer.backward
        assert graph.observer is None and sys.gettrace() is None
    return out.getvalue()


def weights_of(trainer):
    return {name: p.data.tobytes() for name, p in trainer.model.named_parameters()}


@pytest.fixture(autouse=True)
def plain_kernels():
    with kernels.use("reference"):
        yield


# ---------------------------------------------------------------------------------------- commands


def test_next_where_show_and_grad(trainer):
    output = session_on(trainer, "next", "next", "where", "show", "show rstd", "grad", "next", "grad", "continue")
    assert "node 1 of 26: #" in output and "softmax_cross_entropy" in output and "model.py:" in output
    assert "node 4 of 26" in output and "node 5 of" not in output
    where = output[output.index("node 3 of 26") :]
    assert "-> #" in where and " layernorm in ln_final\n" in where and "    dweight    ln_final.weight\n" in where
    assert "    rstd       (2, 8) float32  norm" in where and "    has_bias   True" in where
    assert "rstd (2, 8) float32" in where and "[[" in where  # the array itself
    assert "linear in TransformerLM\n    dx         (2, 8, 16) float32" in where
    assert "to token_embedding.weight; so far (29, 16) float32" in where
    assert "layernorm in ln_final\n    dx " in where  # the second grad
    assert trainer.step == 1


def test_goto_takes_an_id_a_module_a_path_around_it_and_an_operation(trainer):
    output = session_on(
        trainer, "goto", "goto blokcs.0", "goto gelu", "goto blocks.0.attn", "goto blocks.0.ln1", "goto gelu", "quit"
    )
    titles = re.findall(r"node \d+ of 26: #\d+ (.*)", output)
    assert titles == ["softmax_cross_entropy in TransformerLM", "gelu in blocks.1.mlp", "linear in blocks.0.attn.proj",
                      "layernorm in blocks.0.ln1"]  # fmt: skip
    assert "no node to come is called 'gelu'; its ops are" in output  # both have passed
    assert "goto what?" in output and "did you mean 'blocks.0" in output

    first = int(output.split("#")[1].split()[0])
    trainer = make_trainer(trainer.config.data[0])
    start = int(session_on(trainer, "quit").split("#")[1].split()[0])
    assert start != first  # ids differ from step to step
    out = session_on(trainer, f"goto #{start + 26 - 2}", "where", f"goto {start + 26 - 5}", "quit")
    assert "node 3 of 26" in out and "node 6 of 26" in out


def test_break_on_stops_there_first_and_continue_stops_there_again(trainer):
    output = session_on(trainer, "continue", "continue", "continue", break_on="blocks.1.attn")
    stops = re.findall(r"node \d+ of 26: #\d+ \w+ in (.*)", output)
    assert stops == ["blocks.1.attn.proj", "blocks.1.attn", "blocks.1.attn.qkv"]
    assert trainer.step == 1
    with pytest.raises(NoSuchNode, match=r"'blocks\.7\.attn'; did you mean 'blocks"):
        session_on(trainer, break_on="blocks.7.attn")


def test_step_goes_into_the_backward_function_and_its_kernel_and_nothing_else(trainer):
    commands = ["goto layernorm", "step", "p ('mean', mean.shape)", *["step"] * 5, *["next"] * 8, "grad", "quit"]
    output = session_on(trainer, *commands)
    lines = [line for line in output.splitlines() if "> /" in line]
    assert "layernorm_backward()" in lines[0] and "ops/nn.py" in lines[0]
    assert "('mean', (2, 8))" in output
    assert any("/reference.py" in line for line in lines)
    ours = r"/ops/nn\.py|/kernels/\w+/reference\.py"  # not NumPy, not the engine
    assert all(re.search(ours, line) for line in lines)
    assert "node 4 of 26" in output  # after the backward function returns, the session continues
    assert "layernorm in ln_final\n    dx         (2, 8, 16)" in output


def test_check_passes_a_right_backward_function_and_names_a_wrong_one(trainer, monkeypatch):
    names = ("softmax_cross_entropy", "linear", "layernorm", "add", "gelu", "causal_self_attention", "embedding")
    output = session_on(trainer, "check", *[c for name in names[1:] for c in (f"goto {name}", "check")], "quit")
    for name in names:
        assert f" {name} in " in output or name == "softmax_cross_entropy"
    assert output.count("agrees with finite differences") == len(names)
    assert "relative errors: x " in output and "weight " in output

    right = kernels.backend("reference").gelu_backward
    monkeypatch.setattr(kernels.backend("reference"), "gelu_backward", lambda *args: 1.01 * right(*args))
    output = session_on(trainer, "goto gelu", "check", "next", "quit")
    assert "gelu in blocks.1.mlp: x, " in output and "analytic" in output and "agrees" not in output
    assert "node 7 of 26" in output  # and the session goes on


def test_check_says_when_it_cannot():
    out = io.StringIO()
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    Session(stdin=io.StringIO("check\ncontinue\n"), stdout=out).backward((x * x).sum())
    assert "not made in check mode" in out.getvalue() and x.grad.tolist() == [2, 4]
    Session(stdin=io.StringIO(), stdout=out).backward(x, [1.0, 1.0])  # a leaf: no backward function to stop at
    assert x.grad.tolist() == [3, 5]


def test_help_explain_and_what_is_no_command(trainer):
    output = session_on(trainer, "help", "explain", "frobnicate", "show nosuch", "grad", "quit")
    for command in ("next", "step", "where", "show [NAME]", "grad", "check", "goto ID", "continue", "quit", "help"):
        assert f"    {command}" in output
    assert "unknown command 'frobnicate'" in output and "nothing is called 'nosuch' here; there are logits" in output
    assert "dlogits" in output and "no node has run yet" in output


# ------------------------------------------------------------------------- it changes nothing else


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_a_step_walked_through_is_the_same_step_bit_for_bit(text, kernel_set):
    with kernels.use(kernel_set):
        walked, plain = make_trainer(text, grad_accumulation_steps=2), make_trainer(text, grad_accumulation_steps=2)
        session_on(walked, *["next"] * 30, "show", "grad", "goto embedding", "continue")
        plain.train_step()
        assert walked.step == plain.step == 1 and weights_of(walked) == weights_of(plain)


@pytest.mark.parametrize("last", ["quit", "", "step\nquit", "step\nnext"])
def test_leaving_half_way_leaves_no_half_gradient(trainer, last):
    """By quit, at the end of input, by pdb's quit inside a backward function, and at the end of input there."""
    trainer.train_step()
    before, grads = weights_of(trainer), [p.grad for p in trainer.model.parameters()]
    assert grads[0] is not None
    output = session_on(trainer, "next", "next", "next", *([last] if last else []))
    assert output.endswith("ABANDONED") and "so far" not in output
    assert trainer.step == 1 and weights_of(trainer) == before
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())  # as zero_grad left them
    trainer.train_step()

    other = make_trainer(trainer.config.data[0])
    other.train_step()
    other.train_step()
    assert weights_of(trainer) == weights_of(other)


def test_yielded_steps_are_unchanged_after_five_training_steps(trainer):
    held, copies = [], []

    def backward(loss, grad):
        for step in mg.backward_steps(loss, grad):
            held.append(step)
            copies.append({name: array.tobytes() for name, array in step.arrays.items()})

    trainer.backward = backward
    trainer.train_step()
    for _ in range(4):
        trainer.train_step()
    assert len(held) == 5 * 26
    for step, arrays in zip(held, copies, strict=True):
        assert {name: array.tobytes() for name, array in step.arrays.items()} == arrays, step


# ------------------------------------------------------------------------------------- fast kernels


def test_with_fast_kernels_only_the_backward_function_stepped_into_is_plain_python(trainer):
    ask = "p ('kind', type(sys.modules['kernels.{}.cpu'].{}).__name__)".format
    commands = ["goto layernorm", "step", "import sys", ask("layernorm", "_backward"), *["step"] * 4, "next"]
    commands += ["continue", "goto gelu", "step", "continue", "continue"]
    with kernels.use("fast"):
        plain = make_trainer(trainer.config.data[0])
        plain.train_step()
        output = session_on(trainer, *commands)
        from kernels.layernorm import cpu as layernorm

        assert type(layernorm._backward).__name__ == "CPUDispatcher"  # compiled again
    assert "('kind', 'function')" in output and "kernels/layernorm/cpu.py" in output
    for name, p in trainer.model.named_parameters():  # sums in another order: equal to rounding, not by bits
        np.testing.assert_allclose(p.grad, dict(plain.model.named_parameters())[name].grad, rtol=1e-3, atol=1e-5)
