"""Methods and functions are one thing under NumPy's and PyTorch's names, and bad arguments get clear errors."""

import method_signatures
import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import ops
from minigrad.tensor_methods import Methods


def x3(shape=(2, 3, 4)):
    return mg.tensor(np.random.default_rng(0).uniform(0.5, 2.0, shape), requires_grad=True)


# method call, function call, the same in plain NumPy
TWINS = {
    "sum-axis": (lambda x: x.sum(axis=1), lambda x: mg.sum(x, dim=1), lambda a: a.sum(axis=1)),
    "sum-keep": (lambda x: x.sum(dim=-1, keepdim=True), lambda x: mg.sum(x, axis=-1, keepdims=True),
                 lambda a: a.sum(axis=-1, keepdims=True)),
    "mean": (lambda x: x.mean(dim=(0, 2)), lambda x: mg.mean(x, axis=(0, 2)), lambda a: a.mean(axis=(0, 2))),
    "var": (lambda x: x.var(dim=1, correction=1), lambda x: mg.var(x, axis=1, correction=1),
            lambda a: a.var(axis=1, ddof=1)),
    "max": (lambda x: x.max(axis=0), lambda x: mg.amax(x, dim=0), lambda a: a.max(axis=0)),
    "max-values": (lambda x: x.max(dim=0).values, lambda x: mg.amax(x, axis=0), lambda a: a.max(axis=0)),
    "min": (lambda x: x.amin(dim=0), lambda x: mg.min(x, axis=0), lambda a: a.min(axis=0)),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: mg.permute(x, (2, 0, 1)), lambda a: a.transpose(2, 0, 1)),
    "permute-two": (lambda x: x[0].permute(1, 0), lambda x: mg.permute(x[0], (-1, 0)), lambda a: a[0].T),
    "permute-same": (lambda x: x[0].permute(0, 1), lambda x: mg.permute(x[0], [0, 1]), lambda a: a[0]),
    "transpose-numpy": (lambda x: x.transpose(2, 0, 1), lambda x: mg.transpose(x, (2, 0, 1)),
                        lambda a: a.transpose(2, 0, 1)),
    "transpose-torch": (lambda x: x.transpose(1, 2), lambda x: mg.swapaxes(x, 1, 2), lambda a: a.swapaxes(1, 2)),
    "T": (lambda x: x.T, lambda x: mg.transpose(x), lambda a: a.T),
    "view": (lambda x: x.view(6, -1), lambda x: mg.reshape(x, (6, 4)), lambda a: a.reshape(6, 4)),
    "flatten": (lambda x: x.flatten(), lambda x: mg.reshape(x, -1), lambda a: a.reshape(-1)),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: mg.expand_dims(x, 1), lambda a: a[:, None]),
    "squeeze": (lambda x: x[:1].squeeze(dim=0), lambda x: mg.squeeze(x[:1], axis=0), lambda a: a[0]),
    "clamp": (lambda x: x.clamp(min=0.7, max=1.1), lambda x: mg.clip(x, 0.7, 1.1), lambda a: a.clip(0.7, 1.1)),
    "clamp-one-side": (lambda x: x.clamp(max=1.1), lambda x: mg.clip(x, None, 1.1), lambda a: a.clip(None, 1.1)),
    "expand": (lambda x: x[:, :1].expand(-1, 5, 4), lambda x: mg.broadcast_to(x[:, :1], (2, 5, 4)),
               lambda a: np.broadcast_to(a[:, :1], (2, 5, 4))),
    "expand-new": (lambda x: x.expand((5, 2, 3, -1)), lambda x: mg.broadcast_to(x, (5, 2, 3, 4)),
                   lambda a: np.broadcast_to(a, (5, 2, 3, 4))),
    "cat": (lambda x: mg.cat([x, x], dim=-1), lambda x: mg.concatenate([x, x], axis=2),
            lambda a: np.concatenate([a, a], axis=2)),
    "stack": (lambda x: mg.stack([x, x], dim=1), lambda x: mg.stack([x, x], axis=1),
              lambda a: np.stack([a, a], axis=1)),
    "split": (lambda x: x.split(2, dim=2)[1], lambda x: mg.split(x, 2, axis=-1)[1], lambda a: a[..., 2:]),
    "softmax": (lambda x: x.softmax(dim=1), lambda x: mg.softmax(x, axis=1),
                lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)),
    "log_softmax": (lambda x: x.log_softmax(dim=0), lambda x: mg.log_softmax(x, axis=0),
                    lambda a: a - np.log(np.exp(a).sum(axis=0))),
    "abs": (lambda x: abs(-x), lambda x: mg.absolute(mg.negative(x)), lambda a: a),
    "power": (lambda x: x**2.0, lambda x: mg.power(x, 2.0), lambda a: a**2),
    "divide": (lambda x: 1.0 / x, lambda x: mg.true_divide(1.0, x), lambda a: 1 / a),
    "subtract": (lambda x: 1.0 - x, lambda x: mg.subtract(1.0, x), lambda a: 1 - a),
    "multiply": (lambda x: x.mul(3.0), lambda x: mg.multiply(x, 3.0), lambda a: 3 * a),
    "matmul": (lambda x: x @ x.transpose(1, 2), lambda x: mg.matmul(x, mg.swapaxes(x, -1, -2)),
               lambda a: a @ a.swapaxes(1, 2)),
    "array-first": (lambda x: np.ones((2, 3, 4)) * 2.0 - x, lambda x: mg.sub(np.full((2, 3, 4), 2.0), x),
                    lambda a: 2.0 - a),
    "array-matmul": (lambda x: np.ones((5, 3)) @ x, lambda x: mg.matmul(np.ones((5, 3)), x),
                     lambda a: np.ones((5, 3)) @ a),
    "elementwise": (lambda x: x.exp().log().sqrt().tanh().sigmoid().relu().silu().neg(),
                    lambda x: mg.neg(mg.silu(mg.relu(mg.sigmoid(mg.tanh(mg.sqrt(mg.log(mg.exp(x)))))))), None),
    "gelu": (lambda x: x.gelu(approximate="tanh"), lambda x: mg.gelu(x, "tanh"), None),
    "cross_entropy": (lambda x: mg.cross_entropy(x[0], [1, 0, 3]), lambda x: mg.softmax_cross_entropy(x[0], [1, 0, 3]),
                      None),
}  # fmt: skip


@pytest.mark.parametrize("method,function,plain", TWINS.values(), ids=TWINS)
def test_both_spellings_give_the_same_values_and_gradients(method, function, plain):
    grads, outs = [], []
    for fn in (method, function):
        x = x3()
        out = fn(x)
        out.backward(np.random.default_rng(1).standard_normal(out.shape))
        grads.append(x.grad)
        outs.append(out.data)
    np.testing.assert_array_equal(*outs, strict=True)
    np.testing.assert_array_equal(*grads, strict=True)
    if plain is not None:
        np.testing.assert_allclose(outs[0], plain(x.data), rtol=1e-14, strict=True)


def test_every_method_is_the_function_of_its_name_and_has_its_docstring():
    names = {name for name in vars(Methods) if not name.startswith("_")}
    assert len(names) > 130
    for name in names:
        assert getattr(mg.Tensor, name) is getattr(F, name) is getattr(mg, name)
        assert getattr(mg.Tensor, name).__doc__


def test_every_method_is_hinted_like_its_function():
    text, expected = method_signatures.current()
    assert text == expected, "write it: python tests/minigrad/method_signatures.py"


def test_a_signature_that_is_not_the_function_s_is_found():
    text, _ = method_signatures.current()
    functions = {name: getattr(F, name) for name in method_signatures.names(text)}
    for old, new in (
        (", keepdim: bool = False", ""),
        ("-> tuple[Tensor, ...]", "-> Tensor"),
        ("exp(self)", "exp(self, x)"),
    ):
        wrong = text.replace(old, new)
        assert wrong != text and method_signatures.written(wrong, functions) == text


def test_every_operation_is_reachable_under_its_name():
    for name in ops.__all__:
        assert callable(getattr(mg, name))


def test_a_name_that_does_not_exist_is_said_to_be_missing():
    with pytest.raises(AttributeError, match="'minigrad' has no attribute 'sofmax'"):
        _ = mg.sofmax


def test_a_tensor_behaves_like_a_sequence_and_a_number():
    x = x3()
    assert len(x) == 2
    assert [row.shape for row in x] == [(3, 4), (3, 4)]
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3, 4), 3, 24, np.float64)
    assert x.detach().numpy() is x.data
    assert mg.tensor(2.5).item() == 2.5
    assert mg.tensor([1.0, 2.0]).dtype == np.float32
    assert mg.tensor(np.ones(2)).dtype == np.float64
    assert mg.tensor(np.ones(2), dtype=np.float32).dtype == np.float32
    assert "requires_grad=True" in repr(x)


def indices(*ids, dtype=np.int64):
    return np.array(ids, dtype)


def attention(*shapes, **setting):
    return lambda: mg.flash_attention(*(x3(shape) for shape in shapes), **setting)


BAD = {
    "axis-sum": (lambda: x3().sum(axis=3), IndexError, "axis 3 is out of bounds for array of dimension 3"),
    "axis-twice": (lambda: x3().sum(axis=(0, -3)), ValueError, "repeated axis"),
    "axis-softmax": (lambda: x3().softmax(dim=-4), IndexError, "axis -4 is out of bounds"),
    "axis-and-dim": (lambda: x3().sum(axis=0, dim=0), TypeError, "sum: give axis or dim, not both"),
    "axis-keyword": (lambda: x3().sum(axes=0), TypeError, "axes"),
    "permute-axis": (lambda: x3().permute(0, 1, 5), IndexError, "axis 5 is out of bounds"),
    "permute-twice": (lambda: x3().permute(0, 1, 1), ValueError, r"\(0, 1, 1\).*expected each of 0\.\.2 once"),
    "permute-few": (lambda: x3().permute(1, 0), ValueError, r"\(1, 0\).*expected each of 0\.\.2 once"),
    "transpose-axis": (lambda: x3().transpose(0, 1, -4), IndexError, "axis -4 is out of bounds"),
    "transpose-either": (lambda: x3()[0].transpose(0, 1), TypeError, "say swapaxes"),
    "shapes-add": (lambda: x3() + np.ones(5), ValueError, "could not be broadcast"),
    "shapes-matmul": (lambda: x3() @ np.ones((3, 4)), ValueError, r"\(2, 3, 4\) and \(3, 4\) do not fit"),
    "reshape": (lambda: x3().view(5, 5), ValueError, "cannot reshape"),
    "split": (lambda: x3().split(5, axis=2), ValueError, "an axis of 4 cannot be split into 5 equal parts"),
    "split-sizes": (lambda: x3().split([1, 2], dim=2), ValueError, r"\[1, 2\] do not add up to the axis, which has 4"),
    "var-integers": (lambda: mg.var(np.arange(3), dim=0), TypeError, r"var takes floating-point tensors, not int64"),
    "topk": (lambda: x3().topk(5), ValueError, "topk: k is 5; expected 0 to 4"),
    "gather": (lambda: x3().gather(1, np.full((1, 1, 1), -1)), IndexError, "index -1 is out of .* 1 with size 3"),
    "select": (lambda: x3().index_select(2, [0, 4]), IndexError, "index 4 is out of bounds for axis 2 with size 4"),
    "einsum": (lambda: mg.einsum("ij->i", x3()), ValueError, "'ij' in 'ij->i' has 2 labels for 3 axes"),
    "einsum-output": (lambda: mg.einsum("ijk->l", x3()), ValueError, "output 'l' of .* must have labels of its"),
    "index": (lambda: x3()[2], IndexError, "out of bounds"),
    "linear": (lambda: mg.linear(x3(), x3((5, 3))), ValueError, r"x has 4 features, weight \(5, 3\) takes 3"),
    "linear-bias": (lambda: mg.linear(x3(), x3((5, 4)), x3((1,))), ValueError, r"bias has shape \(1,\), expected"),
    "layernorm": (lambda: mg.layernorm(x3(), x3((3,))), ValueError, r"weight has shape \(3,\), expected \(4,\)"),
    "layernorm-bias": (lambda: mg.layernorm(x3(), x3((4,)), x3((3,))), ValueError, r"bias has shape \(3,\)"),
    "gelu": (lambda: x3().gelu(approximate="erf"), ValueError, '\'erf\'; expected "none" or "tanh"'),
    "id-high": (lambda: mg.embedding(indices(1, 5), x3((5, 2))), IndexError, r"embedding: id 5 is outside 0\.\.4"),
    "id-negative": (lambda: mg.embedding(indices(-1), x3((5, 2))), IndexError, r"id -1 is outside 0\.\.4"),
    "id-float": (lambda: mg.embedding(np.ones(2), x3((5, 2))), TypeError, "ids must be integers, not float64"),
    "target": (lambda: mg.cross_entropy(x3((2, 5)), indices(1, 5)), IndexError, r"target 5 is outside 0\.\.4"),
    "target-negative": (lambda: mg.cross_entropy(x3((2, 5)), indices(1, -1)), IndexError, r"target -1 is outside"),
    "target-bool": (lambda: mg.cross_entropy(x3((2, 5)), indices(1, 0, dtype=bool)), TypeError, "not bool"),
    "target-shape": (lambda: mg.cross_entropy(x3((2, 5)), indices(1)), ValueError, r"need targets \(2,\), not \(1,\)"),
    "reduction": (lambda: mg.softmax_cross_entropy(x3((2, 5)), indices(1, 0), reduction="none"), ValueError,
                  "is 'none'"),
    "dropout": (lambda: mg.seeded_dropout(x3(), 1.0, 0, 0, 0), ValueError, "dropout: p is 1.0; expected 0 <= p < 1"),
    "attention-3d": (attention((2, 3, 4), (2, 3, 4), (2, 3, 4)), ValueError, r"needs q \(B, H, T, D\)"),
    "attention-batch": (attention((4, 1, 2, 3), (2, 1, 2, 3), (2, 1, 2, 3)), ValueError, r"got \(4, 1, 2, 3\), \(2"),
    "attention-heads": (attention((2, 4, 2, 3), (2, 1, 2, 3), (2, 1, 2, 3)), ValueError, "attention needs"),
    "attention-size": (attention((1, 1, 2, 3), (1, 1, 2, 4), (1, 1, 2, 4)), ValueError, "attention needs"),
    "attention-p": (attention(*[(1, 1, 2, 3)] * 3, p=-0.1), ValueError, "probability p is -0.1"),
    "heads": (lambda: mg.causal_self_attention(x3((1, 2, 9)), 2), ValueError, "9 features do not divide"),
    "heads-many": (lambda: mg.causal_self_attention(x3((1, 2, 3)), 2), ValueError, "3 features do not divide"),
    "heads-none": (lambda: mg.causal_self_attention(x3((1, 2, 3)), 0), ValueError, "n_head >= 1"),
    "qkv-2d": (lambda: mg.causal_self_attention(x3((2, 3)), 1), ValueError, r"needs qkv \(B, T, 3 C\)"),
}  # fmt: skip


@pytest.mark.parametrize("call,error,message", BAD.values(), ids=BAD)
def test_bad_arguments_get_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


KEYWORDS = {  # PyTorch's names of arguments
    ("input",): "abs neg exp log sqrt rsqrt square reciprocal tanh sigmoid exp2 expm1 log2 log10 log1p sin cos floor "
                "ceil trunc round sign isnan isinf isfinite logical_not",
    ("input", "other"): "add sub mul div maximum minimum floor_divide remainder eq ne lt le gt ge isclose logical_and "
                        "logical_or logical_xor",
    ("input", "exponent"): "pow",
    ("condition", "input", "other"): "where",
    ("input", "min", "max"): "clamp",
}  # fmt: skip


@pytest.mark.pytorch
@pytest.mark.parametrize("names,functions", KEYWORDS.items(), ids=map("-".join, KEYWORDS))
def test_elementwise_functions_take_pytorchs_keywords(names, functions):
    import torch

    values = [np.array([0.5, 2.0]), np.array([1.5, 2.0]), np.array([2.0, 1.0])]
    values = [values[0] > 1, *values[1:]] if names[0] == "condition" else values
    for function in functions.split():
        found = getattr(mg, function)(**dict(zip(names, values, strict=False)))
        expected = getattr(torch, function)(**dict(zip(names, map(torch.tensor, values), strict=False)))
        np.testing.assert_allclose(found.data, expected.numpy(), 1e-12, err_msg=function, strict=True)
