"""`minigrad.compare_steps` names the first tensor that differs by more than rounding, and none if nothing does."""

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import compare_steps, optim, random
from minigrad import nn as nn_layers
from minigrad.ops import nn
from tiny_transformer_np import TransformerConfig, TransformerLM


def step(dtype="float32"):
    random.seek(0)
    config = TransformerConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16)
    model = TransformerLM(config).astype(dtype)
    ids = np.random.default_rng(0).integers(0, 11, (4, 9))
    return lambda: model(ids[:, :-1], ids[:, 1:]), dict(model.named_parameters())


def traced(kernel_set="fast", **settings):
    with kernels.use(kernel_set):
        return compare_steps.trace(*step(**settings))


def test_rounding_is_no_divergence():
    reference = traced("reference")
    assert compare_steps.first_divergence(traced("fast"), reference) is None
    assert compare_steps.first_divergence(traced("reference", dtype="float64"), reference) is None
    assert reference.names[0] == "forward #0 embedding in token_embedding"
    assert reference.names[-1].startswith("gradient of ")


def test_the_step_is_left_as_it_was():
    make_loss, parameters = step()
    before = {name: p.data.copy() for name, p in parameters.items()}
    compare_steps.trace(make_loss, parameters)
    assert all(np.array_equal(p.data, before[name]) and p.grad is None for name, p in parameters.items())


def test_a_wrong_forward_kernel_is_named(monkeypatch):
    fast = kernels.backend("cpu")
    original = fast.gelu_forward
    monkeypatch.setattr(fast, "gelu_forward", lambda *args: original(*args) * np.float32(1.0 + 1e-4))
    found = compare_steps.first_divergence(traced("fast"), traced("reference"))
    assert found.startswith("forward #") and "gelu in blocks.0.mlp" in found and "first to differ" in found


def test_a_wrong_backward_function_is_named_by_the_first_gradient_it_made(monkeypatch):
    sound = traced("reference")

    def layernorm_backward(dout, x, weight, mean, rstd, has_bias=True):
        return dout * weight * rstd[..., None], *original(dout, x, weight, mean, rstd, has_bias)[1:]

    original = nn.layernorm_backward
    monkeypatch.setattr(nn, "layernorm_backward", layernorm_backward)
    found = compare_steps.first_divergence(sound, traced("reference"))
    assert found.startswith("backward #")
    last = max(name for name in sound.names if name.startswith("forward") and "add in blocks.1" in name)
    assert last.removeprefix("forward ") in found  # what feeds the last layernorm gets the first wrong gradient


def test_saved_traces(tmp_path):
    trace = traced("reference")
    trace.save(tmp_path / "a.trace")
    loaded = compare_steps.Trace.load(tmp_path / "a.trace")
    assert loaded.names == trace.names and loaded.noise == trace.noise
    assert all(np.array_equal(a, b) for a, b in zip(loaded.arrays, trace.arrays, strict=True))
    (tmp_path / "b.trace").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"trace \S*b\.trace is damaged"):
        compare_steps.Trace.load(tmp_path / "b.trace")


def test_other_shapes_and_structures_are_named():
    whole = traced()
    shorter = compare_steps.Trace(whole.names[:-1], whole.arrays[:-1], whole.noise[:-1])
    renamed = compare_steps.Trace([*whole.names[:3], "forward #3 relu", *whole.names[4:]], whole.arrays, whole.noise)
    wider = compare_steps.Trace(whole.names, [whole.arrays[0][..., :8], *whole.arrays[1:]], whole.noise)
    assert "built differently: A has" in compare_steps.first_divergence(whole, shorter)
    assert "'forward #3 relu' in B" in compare_steps.first_divergence(whole, renamed)
    assert "shape (4, 8, 16) in A, (4, 8, 8) in B" in compare_steps.first_divergence(whole, wider)


def test_command_line(tmp_path, capsys):
    small = "test_compare_steps:step"
    assert compare_steps.main(["dtype=float32", "--save", str(tmp_path / "a"), "--step", small]) == 0
    assert compare_steps.main([str(tmp_path / "a"), "dtype=float64", "--step", small]) == 0
    assert "no difference beyond rounding" in capsys.readouterr().out
    (tmp_path / "link").symlink_to("a")
    assert compare_steps.main(["dtype=float64", "--save", str(tmp_path / "link"), "--step", small]) == 0
    assert "tensors saved to" in capsys.readouterr().err  # what goes to stdout may be the tensors
    assert (tmp_path / "link").is_symlink() and compare_steps.Trace.load(tmp_path / "a").arrays[0].dtype == np.float64
    for words, said in (
        ([tmp_path / "a", "n_layers=3", "--step", small], "n_layers"),
        (["missing.file", tmp_path / "a"], "missing.file"),
        (["dtype=float32", "--step", small, "--save", tmp_path / "no" / "such"], "cannot write"),
        ([], "A"),
        (["a=1"], "--save"),
    ):
        with pytest.raises(SystemExit) as left:
            compare_steps.main([str(word) for word in words])
        err = capsys.readouterr().err
        assert left.value.code == 2 and said in err and len(err.splitlines()) == 1, err


def test_gradients_in_an_optimizers_arena_are_left_as_they_were():
    """A trace, a gradient check of parameters, and one of a function that uses them without being given them."""
    layer = nn_layers.Linear(3, 2).astype(np.float64)
    optim.GradientArena(layer).gather()
    x = np.random.default_rng(0).standard_normal((4, 3))

    def loss():
        return (layer(mg.tensor(x)) ** 2).sum()

    loss().backward()
    parameters = dict(layer.named_parameters())
    before = {name: (p.grad, p.grad.copy()) for name, p in parameters.items()}
    compare_steps.trace(lambda: loss() * 3.0, parameters)
    mg.gradcheck(lambda *_: loss() * 3.0, parameters)
    mg.gradcheck(lambda x: layer(x) * 3.0, [x])
    for name, p in parameters.items():
        assert p.grad is before[name][0] is p.grad_buffer and np.array_equal(p.grad, before[name][1]), name
