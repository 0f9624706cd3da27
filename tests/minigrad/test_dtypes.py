"""One rule of dtypes, PyTorch's; what no tensor can hold is converted or refused at the door."""

import contextlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]
OPERATIONS = ["add", "mul", "div", "maximum", "where", "remainder", "floor_divide", "eq", "logical_and"]


def call(library, op, a, b):
    if op == "where":
        return library.where(library.tensor([True, False]), a, b)
    return getattr(library, op)(a, b)


def outcome(fn):
    """The dtype of a result, or that it is refused."""
    try:
        return str(fn().dtype).removeprefix("torch.")
    except (TypeError, RuntimeError, ZeroDivisionError):
        return "refused"


@pytest.mark.pytorch
@pytest.mark.parametrize("op", OPERATIONS)
def test_tensors_are_promoted_as_torch_promotes_them(op):
    for (a, b), shapes in itertools.product(itertools.product(DTYPES, DTYPES), (((2,), (2,)), ((2,), ()), ((), ()))):
        x, y = np.ones(shapes[0], a), np.ones(shapes[1], b)
        expected = outcome(lambda x=x, y=y: call(torch, op, torch.tensor(x), torch.tensor(y)))
        found = outcome(lambda x=x, y=y: call(mg, op, mg.tensor(x), mg.tensor(y)))
        # these two PyTorch does not have for booleans
        assert found == expected or (a == b == "bool" and op in ("remainder", "floor_divide")), (op, a, b, shapes)


@pytest.mark.pytorch
@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2)], ids=repr)
@pytest.mark.parametrize("op", ["add", "mul", "div", "pow", "where", "maximum"])
def test_scalars_numpy_s_included_never_widen(op, scalar):
    for dtype, shape in itertools.product(DTYPES[:-1], ((2,), ())):
        x = np.ones(shape, dtype)
        number = (
            torch.tensor(scalar.item() if isinstance(scalar, np.generic) else scalar) if op == "maximum" else scalar
        )
        if op == "maximum" and shape == ():
            continue  # PyTorch's maximum takes no scalar, and a tensor without axes is not as weak
        expected = outcome(lambda x=x, number=number: call(torch, op, torch.tensor(x), number))
        assert outcome(lambda x=x: call(mg, op, mg.tensor(x), scalar)) == expected, (op, dtype, shape)
        assert outcome(lambda x=x: call(mg, op, mg.tensor(x), np.array(scalar))) == expected, (op, dtype, shape)


def test_a_list_beside_a_float64_tensor_keeps_its_digits():
    x = mg.tensor(np.zeros(2))
    for out in (x + [0.1, 0.2], [0.1, 0.2] + x, mg.maximum(x, [0.1, 0.2])):
        assert out.dtype == np.float64 and out.tolist() == [0.1, 0.2]
    assert (x.float() + [0.1, 0.2]).dtype == np.float32
    assert (mg.tensor([1, 2]) + [0.5, 0.5]).dtype == np.float32
    assert (mg.tensor([1, 2]) + [1, 1]).dtype == np.int64


REAL = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh",
        "sigmoid"]  # fmt: skip
SAME = ["abs", "neg", "square", "floor", "ceil", "round", "trunc", "sign", "relu"]


@pytest.mark.pytorch
@pytest.mark.parametrize("op", REAL + SAME)
def test_functions_take_integers_arrays_lists_and_half_precision(op):
    for dtype in DTYPES[:-1]:
        array = np.array([1, 2, 3], dtype)
        expected = getattr(torch, op)(torch.tensor(array))
        for x in (array, mg.tensor(array)):
            out = getattr(mg, op)(x)
            assert isinstance(out, mg.Tensor)
            np.testing.assert_allclose(
                out.data, expected.numpy(), rtol=1e-3 if dtype == "float16" else 1e-6, strict=True
            )
    assert getattr(mg, op)([1, 2, 3]).dtype == (np.float32 if op in REAL else np.int64)


def test_dtypes_have_the_names_of_both_libraries():
    assert mg.zeros(2, dtype=mg.float64).dtype == mg.float64 == np.float64
    assert mg.tensor([1.5]).to(mg.int64).dtype == np.int64 and mg.ones(1, dtype=mg.float16).double().dtype == mg.float64


def test_squares_of_booleans_and_bounds_of_integers():
    assert mg.square([True, False]).dtype == np.int64
    assert mg.hardtanh([-3, 0, 3], -1.5, 1.5).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("op", ["softplus", "logsigmoid", "elu", "leaky_relu"])
def test_activations_that_torch_refuses_for_integers_are_refused(op):
    with pytest.raises(TypeError, match=rf"{op} takes floats, not int64; say x.float\(\)"):
        getattr(mg, op)([1, 2])


@pytest.mark.parametrize("array", [
    np.ones((1, 2)).view(np.matrix), np.array([[1.0, 2.0]], ">f4"), np.array([[1, 2]], ">i8"),
    np.broadcast_to(np.float32([1, 2]), (3, 2)),
], ids=["matrix", "big-endian", "big-endian-int", "broadcast"])  # fmt: skip
def test_unusual_arrays_are_converted_at_the_door(array):
    for x in (mg.tensor(array), mg.Tensor(array), mg.exp(array), mg.tensor([[0.0, 0.0]]) + array):
        assert type(x.data) is np.ndarray and x.data.dtype.isnative
    np.testing.assert_array_equal(mg.tensor(array).data, np.asarray(array))
    assert (mg.tensor(array) * mg.tensor(array)).shape == array.shape  # a matrix would multiply


def test_a_memory_mapped_array_is_read(tmp_path):
    np.arange(6, dtype=np.float32).tofile(tmp_path / "x")
    x = mg.Tensor(np.memmap(tmp_path / "x", np.float32, "r", shape=(2, 3)), requires_grad=True)
    assert type(x.data) is np.ndarray
    (x * x).sum().backward()
    assert x.grad.tolist() == [[0, 2, 4], [6, 8, 10]]


@pytest.mark.parametrize("bad,message", [
    (np.array([1.0, 2.0], object), r"not object; convert it first, array.astype\(np.float32\)"),
    (np.array([1j]), "not complex128; take array.real or array.imag"), (1j, "not complex128"),
    (np.ma.masked_array([1.0, 2.0], [True, False]), r"fill the masked array first, array.filled\(value\)"),
    (np.array(["a"]), "not <U1"), ("a", "not <U1"), (None, "not None"), (np.array(["2020"], "M8[D]"), "not datetime"),
    ({1.0}, "not {1.0}"), (np.zeros(2, [("a", "f4")]), "a tensor holds floats, integers or booleans"),
], ids=["object", "complex", "complex-scalar", "masked", "text", "str", "none", "date", "set", "records"])  # fmt: skip
def test_what_no_tensor_holds_is_refused_in_one_line(bad, message):
    x = mg.tensor([1.0, 2.0])
    for make in (lambda: mg.tensor(bad), lambda: mg.exp(bad), lambda: x + bad, lambda: mg.where([True, False], x, bad)):
        with pytest.raises(TypeError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_conversions_and_their_gradients():
    x = mg.tensor([1.5, -2.5], requires_grad=True)
    for out, dtype in ((x.half(), "f2"), (x.double(), "f8"), (x.to(np.float64), "f8"), (x.type("float64"), "f8"),
                       (x.astype(np.float16), "f2"), (x.to(mg.tensor([1.0], dtype=np.float64)), "f8")):  # fmt: skip
        assert out.dtype == np.dtype(dtype)
        x.zero_grad()
        (out * out).sum().backward()
        assert x.grad.dtype == np.float32 and x.grad.tolist() == [3, -5]
    assert x.float() is x and x.to(np.float32) is x
    for out, expected in ((x.long(), [1, -2]), (x.int(), [1, -2]), (x.bool(), [True, True])):
        assert out.tolist() == expected and not out.requires_grad
    with pytest.raises(TypeError, match="cpu"):
        x.to("cpu")


@pytest.mark.parametrize("op", ["add", "mul", "div", "maximum", "pow", "where"])
def test_mixed_floats_give_each_operand_a_gradient_of_its_own_dtype(op):
    a = mg.tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    b = mg.tensor(np.array([3.0, 1.5]), requires_grad=True)
    out = call(mg, op, a, b)
    out.sum().backward()
    assert (out.dtype, a.grad.dtype, b.grad.dtype) == (np.float64, np.float32, np.float64)


def test_the_page_tells_the_truth():
    page = (Path(__file__).parents[2] / "docs" / "dtypes.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    assert program.count("assert") == 7
    exec(program, {})


@pytest.mark.pytorch
def test_dtypes_have_pytorchs_short_names_too():
    for name in ("half", "float", "double", "short", "int", "long", "bool"):
        theirs, ours = torch.ones(2, dtype=getattr(torch, name)), mg.ones(2, dtype=getattr(mg, name))
        assert ours.dtype == theirs.numpy().dtype
    assert not {"float", "int", "bool"} & set(mg.__all__)
