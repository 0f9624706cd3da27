"""Reductions, order and shapes: `axis` is NumPy's and `dim` PyTorch's, over shapes, axes, dtypes and layouts."""

import contextlib
import itertools
import warnings

import numpy as np
import pytest

import minigrad as mg

with contextlib.suppress(ImportError):  # the tests that need it carry the marker
    import torch

SHAPES = [(4,), (2, 3), (3, 1, 4)]
DTYPES = [np.float32, np.float64, np.int64, np.bool_]
FLOATS_ALONE = {"var", "std"}
LAYOUTS = [lambda a: a, lambda a: np.asfortranarray(a), lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1]]


def inputs(name):
    """Arrays of every shape, dtype and layout; small integers, so that there are ties."""
    rng = np.random.default_rng(3)
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        if np.dtype(dtype).kind == "f" or name not in FLOATS_ALONE:
            values = rng.integers(-2, 3, shape) + (0.5 * rng.standard_normal(shape) if dtype == np.float64 else 0)
            yield from (layout(values.astype(dtype)) for layout in LAYOUTS)


def axes_of(ndim, several):
    return [None, *range(-ndim, ndim), *([(0, ndim - 1), (), tuple(range(ndim))] if several and ndim > 1 else [])]


REDUCTIONS = ("sum", "mean", "prod", "max", "min", "amax", "amin", "all", "any", "count_nonzero", "var", "std")


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_over_axis_is_numpys(name):
    settings = [{"ddof": 0}, {"ddof": 1}, {"correction": 1}, {}] if name in FLOATS_ALONE else [{}]
    if name in ("sum", "prod", "mean"):
        settings.append({"dtype": np.float64})
    for x in inputs(name):
        for axis, keepdims, setting in itertools.product(axes_of(x.ndim, True), (False, True), settings):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of NumPy: the variance of one row
                expected = np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdims, **setting))
            found = getattr(mg, name)(x, axis=axis, keepdims=keepdims, **setting).data
            tolerance = 1e-14 if found.dtype == np.float64 else 2e-6
            np.testing.assert_allclose(
                found, expected, rtol=tolerance, atol=tolerance, err_msg=f"{x!r} {axis} {setting}"
            )
            assert found.shape == expected.shape


ORDER = {
    "argmax": {}, "argmin": {}, "cumsum": {}, "cumprod": {}, "median": {}, "sort": {}, "argsort": {"kind": "stable"},
}  # fmt: skip


@pytest.mark.parametrize("name,numpy_setting", ORDER.items())
def test_order_along_axis_is_numpys(name, numpy_setting):
    for x in inputs(name):
        for axis in axes_of(x.ndim, False):
            expected = np.asarray(getattr(np, name)(x, axis=axis, **numpy_setting))
            found = getattr(mg, name)(x, axis=axis).data
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
            assert found.shape == expected.shape


def forms(x):
    """(name, keywords of NumPy) for calls that move elements of x."""
    n, last = x.shape[-1], x.ndim - 1
    rest = tuple(range(x.ndim))
    yield from [
        ("flip", {"axis": 0}), ("flip", {"axis": (0, last) if last else None}), ("roll", {"shift": 1, "axis": last}),
        ("roll", {"shift": -5, "axis": None}), ("roll", {"shift": (1, 2), "axis": (0, last)}),
        ("repeat", {"repeats": 2, "axis": 0}), ("repeat", {"repeats": [*range(n)], "axis": -1}),
        ("repeat", {"repeats": 3, "axis": None}), ("tile", {"reps": (2, 1, 2)}), ("tile", {"reps": 2}),
        ("transpose", {"axes": rest[::-1]}), ("transpose", {"axes": None}),
        ("moveaxis", {"source": 0, "destination": -1}),
        ("swapaxes", {"axis1": 0, "axis2": -1}), ("reshape", {"shape": (-1, n)}), ("expand_dims", {"axis": (0, -1)}),
        ("broadcast_to", {"shape": (2, *x.shape)}), ("pad", {"pad_width": 1, "mode": "edge"}),
        ("pad", {"pad_width": [(1, 2)] * x.ndim, "constant_values": 1}), ("pad", {"pad_width": (2, 1), "mode": "wrap"}),
        ("pad", {"pad_width": ((0, 1),), "mode": "symmetric"}), ("split", {"indices_or_sections": n, "axis": -1}),
        ("split", {"indices_or_sections": [1, 1, -1], "axis": 0}), ("ravel", {}), ("squeeze", {}),
    ]  # fmt: skip
    if x.ndim == 3:
        yield "squeeze", {"axis": 1}
    if x.ndim > 1:
        yield from [("tril", {"k": 1}), ("triu", {"k": -1}), ("diagonal", {"offset": 1, "axis1": -1, "axis2": 0}),
                    ("trace", {"offset": -1, "axis1": 1, "axis2": 0})]  # fmt: skip


@pytest.mark.numpy21
def test_moving_elements_by_numpys_keywords_gives_its_values():
    for x in inputs("flip"):
        for name, keywords in forms(x):
            expected, found = getattr(np, name)(x, **keywords), getattr(mg, name)(mg.tensor(x), **keywords)
            several = isinstance(found, list)
            for one, other in zip(found if several else [found], expected if several else [expected], strict=True):
                np.testing.assert_array_equal(one.data, other, f"{name} {keywords} {x.shape}")
                assert one.data.shape == np.shape(other)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", ["max", "min", "sort", "topk", "argmax", "argmin", "cumsum", "cumprod", "median",
                                  "gather", "tril"])  # fmt: skip
def test_along_dim_values_indices_and_gradients_are_pytorchs(name):
    arguments = {"topk": {"k": 2}, "gather": {}, "tril": {}, "sort": {"stable": True}}.get(name, {})
    for x in inputs(name):
        for dim in range(-x.ndim, x.ndim) if name != "tril" else [0] * (x.ndim > 1):
            if x.shape[dim] < 2 or x.dtype == bool:
                continue
            keywords = {"diagonal": 1} if name == "tril" else {"dim": dim, **arguments}
            mine = mg.tensor(x, requires_grad=x.dtype.kind == "f")
            other = torch.tensor(x.copy(), requires_grad=x.dtype.kind == "f")
            index = [np.zeros(x.shape, np.int64)] if name == "gather" else []
            found = getattr(mg, name)(mine, **keywords, **({"index": index[0]} if index else {}))
            expected = getattr(torch, name)(other, **keywords, **({"index": torch.tensor(index[0])} if index else {}))
            pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
            values, wanted = next(iter(pairs))
            np.testing.assert_allclose(values.data, wanted.detach().numpy(), rtol=1e-6)
            if values.requires_grad:
                upstream = np.random.default_rng(0).standard_normal(values.shape).astype(x.dtype)
                values.backward(upstream)
                wanted.backward(torch.tensor(upstream))
                if name in ("max", "min", "topk", "median"):  # which of equal elements is PyTorch's to choose
                    np.testing.assert_allclose(mine.grad.sum(dim), other.grad.numpy().sum(dim), rtol=1e-5, atol=1e-5)
                else:
                    np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_values_and_indices_have_names():
    x = mg.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    for out in (x.max(dim=1), x.min(dim=1), x.median(dim=1), x.sort(dim=1), x.topk(2)):
        values, indices = out
        assert out.values is values and out.indices is indices
        assert indices.dtype == np.int64 and not indices.requires_grad and values.requires_grad


def test_the_maximum_with_dim_gives_one_of_equal_elements_the_gradient_and_amax_shares_it():
    tied = np.array([[2.0, 2.0, 1.0]])
    for fn, expected in ((lambda x: x.max(dim=1).values, [[1, 0, 0]]), (lambda x: x.amax(dim=1), [[0.5, 0.5, 0]])):
        x = mg.tensor(tied, requires_grad=True)
        fn(x).sum().backward()
        np.testing.assert_array_equal(x.grad, expected)


def test_the_variance_of_one_row_is_nan_without_a_warning():
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    for out in (x.var(dim=0), x.std(dim=0), x.var(axis=0, ddof=1)):
        out.sum().backward()
        assert np.isnan(out.data).all()
        assert np.isnan(x.grad).all()


def test_the_standard_deviation_of_equal_elements_has_the_gradient_zero():
    x = mg.tensor(np.ones(3), requires_grad=True)
    out = x.std(dim=0)
    out.backward()
    assert out.item() == 0 and (x.grad == 0).all()


def test_the_median_of_an_even_number_is_the_lower_one_with_dim_and_the_mean_of_two_with_axis():
    x = mg.tensor([[1.0, 4.0, 3.0, 2.0], [7.0, 5.0, np.nan, 6.0]], requires_grad=True)
    values, indices = x.median(dim=1)
    assert values.tolist()[0] == 2.0 and indices.tolist() == [3, 2]
    assert np.isnan(values.tolist()[1]) and np.isnan(x.median(axis=1).tolist()[1])
    x[0].median(axis=None).backward()
    assert x.grad.tolist() == [[0, 0, 0.5, 0.5], [0, 0, 0, 0]]
    assert mg.median([3, 1, 2, 2], dim=0).values.tolist() == 2 and mg.median([3, 1], axis=0).tolist() == 2.0


def test_running_products_have_gradients_at_zeros():
    x = mg.tensor([2.0, 0.0, 3.0, 0.0, 5.0], requires_grad=True)
    x.cumprod(dim=0).sum().backward()
    assert x.grad.tolist() == [1, 8, 0, 0, 0]  # 2 * (1 + 3): the products end at the second zero


def test_divisors_follow_the_keyword():
    x = mg.tensor(np.arange(4.0))
    assert x.var(dim=0).item() == x.var(unbiased=True).item() == x.var(correction=1).item() == 5 / 3
    assert (
        x.var(axis=0).item()
        == x.var(ddof=0).item()
        == x.var(dim=0, correction=0).item()
        == x.var(keepdims=False).item()
    )


def test_integers():
    counts = mg.tensor(np.array([1, 2, 4]))
    assert (
        counts.sum().dtype
        == counts.cumsum(dim=0).dtype
        == counts.cumprod(dim=0).dtype
        == counts.prod().dtype
        == np.int64
    )
    assert counts.mean().dtype == counts.logsumexp(dim=0).dtype == np.float32
    assert counts.sum(dtype=np.float32).dtype == np.float32
    assert mg.sum([True, True]).item() == 2
    for fn in (lambda x: x.var(dim=0), lambda x: x.std(dim=0), lambda x: x.norm()):
        with pytest.raises(TypeError, match="takes floating-point tensors, not int64"):
            fn(counts)


def test_no_elements():
    empty = mg.tensor(np.zeros((0, 3)), requires_grad=True)
    assert empty.sum().item() == 0 and empty.prod().item() == 1
    assert np.isnan(empty.mean(dim=0).data).all() and np.isnan(empty.var(dim=0).data).all()
    assert empty.logsumexp(dim=1).shape == empty.sort(dim=1).values.shape[:1] == (0,)
    for fn in (lambda: empty.amax(dim=0), lambda: empty.argmax(), lambda: empty.max(dim=0)):
        with pytest.raises(ValueError, match=r"zero-size|empty|without elements"):
            fn()


@pytest.mark.parametrize("call", [lambda x: x.sum(dim=2), lambda x: x.sort(dim=2), lambda x: x.cumsum(dim=2),
                                  lambda x: x.max(dim=-3), lambda x: x.split(1, dim=2), lambda x: x.flip(2),
                                  lambda x: x.gather(2, np.zeros((1, 1), int)), lambda x: x.squeeze(2)])  # fmt: skip
def test_a_dim_out_of_range_is_one_line(call):
    with pytest.raises(IndexError, match=r"axis -?[23] is out of bounds for array of dimension 2") as raised:
        call(mg.tensor(np.ones((2, 3))))
    assert "\n" not in str(raised.value)


def test_logsumexp_overflows_nowhere():
    x = mg.tensor([[1e4, 1e4], [-1e4, -np.inf]], requires_grad=True)
    out = x.logsumexp(dim=1)
    out.sum().backward()
    np.testing.assert_allclose(out.data, [1e4 + np.log(2), -1e4], rtol=1e-7)
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5], [1, 0]])


def test_float32_squares_overflow_in_no_norm():
    x = mg.tensor(np.full(3, 1e30, np.float32), requires_grad=True)
    x.norm().backward()
    np.testing.assert_allclose(x.norm().data, 3**0.5 * 1e30, rtol=1e-6)
    np.testing.assert_allclose(x.grad, 3**-0.5, rtol=1e-6)
