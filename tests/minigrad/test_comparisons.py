"""`==` and its kin compare elements and give booleans; a tensor is still a key and an object of its own."""

import operator

import numpy as np
import pytest

import minigrad as mg

X = np.array([[1.0, 2.0, np.nan], [0.0, -1.0, np.inf]], np.float32)
OTHERS = {
    "int": 1, "float": 0.5, "array": np.array([1.0, -1.0, np.inf]), "list": [1.0, -1.0, 2.0], "scalar": np.float64(2.0),
    "tensor": mg.tensor([[1], [0]]), "0d": np.array(1.0), "bool": True,
}  # fmt: skip
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
NAMES = [("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal), ("gt", np.greater),
         ("ge", np.greater_equal), ("not_equal", np.not_equal), ("less", np.less), ("less_equal", np.less_equal),
         ("greater", np.greater), ("greater_equal", np.greater_equal), ("logical_and", np.logical_and),
         ("logical_or", np.logical_or), ("logical_xor", np.logical_xor)]  # fmt: skip


def plain(x):
    return x.data if isinstance(x, mg.Tensor) else x


def is_mask(out, expected):
    assert type(out) is mg.Tensor and out.dtype == bool and not out.requires_grad
    np.testing.assert_array_equal(out.data, expected)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("compare", COMPARISONS)
def test_operators_compare_elements_on_either_side(compare, other):
    x = mg.tensor(X, requires_grad=True)
    is_mask(compare(x, other), compare(X, np.asarray(plain(other))))
    is_mask(compare(other, x), compare(np.asarray(plain(other)), X))


@pytest.mark.parametrize("name,ufunc", NAMES, ids=[name for name, _ in NAMES])
def test_functions_and_methods_of_both_libraries(name, ufunc):
    other = np.array([[1.0, 0.0, 2.0]])
    for out in (getattr(mg, name)(X, other), getattr(mg, name)(mg.tensor(X), other)):
        is_mask(out, ufunc(X, other))
    if hasattr(mg.Tensor, name):
        is_mask(getattr(mg.tensor(X), name)(other), ufunc(X, other))


def test_an_accuracy_is_counted_and_a_mask_chooses():
    predicted, targets = mg.tensor([1, 0, 2, 2]), np.array([1, 1, 2, 0])
    assert (predicted == targets).float().mean().item() == 0.5
    x = mg.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    out = mg.where(x == 0, 7.0, x)
    out.sum().backward()
    assert out.tolist() == [-1.0, 7.0, 2.0] and x.grad.tolist() == [1, 0, 1]
    assert mg.where((x > -2) & ~(x == 0) | (x > 5), 1, 0).tolist() == [1, 0, 1]
    assert [t.tolist() for t in mg.where(x > -0.5)] == [[1, 2]]
    assert x.where(x > 0, -1.0).tolist() == [-1.0, -1.0, 2.0]  # the method asks for the condition second
    assert x[x > -0.5].tolist() == [0.0, 2.0]
    assert np.where(x.detach() > 0, 1, 0).tolist() == [0, 0, 1]


def test_integers_compare_by_value_beside_any_number():
    x = mg.tensor(np.array([0, 200, 255], np.uint8))
    assert (x == -1).tolist() == [False] * 3 and (x < 300).tolist() == [True] * 3
    assert (x > 199.5).tolist() == [False, True, True]


def test_a_tensor_beside_what_is_no_number_is_just_another_object():
    x = mg.tensor([1.0])
    assert (x == None) is False and (x != None) is True and (x == "x") is False  # noqa: E711
    with pytest.raises(TypeError, match="not supported between instances of 'Tensor' and 'NoneType'"):
        _ = x < None


def test_a_tensor_is_a_key_of_its_own():
    a, b = mg.tensor([1.0, 2.0]), mg.tensor([1.0, 2.0])
    assert hash(a) != hash(b) and len({a, b, a.detach()}) == 3 and {a: 1, b: 2}[b] == 2
    assert a in {a} and b not in {a}


def test_membership_asks_the_elements():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert 3 in x and 5.0 not in x and np.float64(4.0) in x
    with pytest.raises(ValueError, match="truth value of an array with more than one element is ambiguous"):
        bool(x == 1)


def test_logic_of_masks_and_integers():
    m, n = mg.tensor([True, True, False]), np.array([True, False, False])
    for out, expected in ((m & n, m.data & n), (n | m, n | m.data), (m ^ n, m.data ^ n), (~m, ~m.data),
                          (m.logical_not(), ~m.data)):  # fmt: skip
        is_mask(out, expected)
    is_mask(mg.tensor([0.0, 2.0]).logical_not(), [True, False])
    i = mg.tensor([6, 5])
    assert (i & 3).tolist() == [2, 1] and (8 | i).tolist() == [14, 13] and (i ^ i).tolist() == [0, 0]
    assert (~i).tolist() == [-7, -6] and mg.bitwise_and(i, 4).tolist() == [4, 4]
    with pytest.raises(TypeError, match=r"takes integers or booleans, not float32; a mask is \(x != 0\)"):
        _ = mg.tensor([1.0]) & 1


def test_tests_of_single_elements_and_of_all():
    x = mg.tensor(X)
    is_mask(x.isnan(), np.isnan(X))
    is_mask(mg.isinf(X), np.isinf(X))
    is_mask(x.isfinite(), np.isfinite(X))
    is_mask((x > 0).all(dim=1), [False, False])
    is_mask((x >= -1).any(axis=0, keepdims=True), [[True, True, True]])
    assert (x == x).all().item() is False and bool((x == x).any())


def test_closeness_is_numpy_s():
    a = np.array([1.0, 1.0, np.nan, np.inf, np.inf, -np.inf, 1e-9, 0.0])
    b = np.array([1.0 + 1e-6, 1.1, np.nan, np.inf, 1.0, np.inf, 0.0, np.inf])
    for setting in ({}, {"equal_nan": True}, {"rtol": 0.2}, {"atol": 1e-12}):
        is_mask(mg.isclose(a, b, **setting), np.isclose(a, b, **setting))
        is_mask(mg.tensor(b).isclose(a, **setting), np.isclose(b, a, **setting))
    assert mg.allclose(mg.tensor([1.0]), [1.0 + 1e-7]) is True and mg.allclose([1.0], [1.1]) is False
