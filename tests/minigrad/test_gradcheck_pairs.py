"""gradcheck of pairs (forward, vjp) of functions of plain arrays: NumPy's, the simulator's, a GPU's."""

import numpy as np
import pytest

import minigrad as mg
from cudasim import array as sim


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def matmul_vjp(dout, x, w):
    return dout @ w.T, x.T @ dout


MATMUL = (np.matmul, matmul_vjp)


def refused(pair, inputs, error=mg.GradcheckError):
    with pytest.raises(error) as caught:
        mg.gradcheck(pair, inputs)
    return str(caught.value)


def one_wrong(dout, x):
    """Wrong at (1, 2), by 0.3; without a write to one element, which the simulator's arrays do not have."""
    return dout * 2.0 * x + 0.3 * (x == x[1, 2])


def on(place, dtype):
    """normal(3, 4) there. place: "numpy", "sim", "cupy", "torch"."""
    x = normal(3, 4, dtype=dtype)
    if place in ("cupy", "torch"):
        library = pytest.importorskip(place)
        return library.asarray(x)
    return sim.asarray(x) if place == "sim" else x


PLACES = ["numpy", "sim", pytest.param("torch", marks=pytest.mark.pytorch),
          pytest.param("cupy", marks=[pytest.mark.gpu, pytest.mark.gpu_check])]  # fmt: skip


@pytest.mark.parametrize("dtype,error", [(np.float64, 1e-9), (np.float32, 1e-3)])
@pytest.mark.parametrize("place", PLACES)
def test_one_wrong_coordinate_is_named(place, dtype, error):
    x = on(place, dtype)
    report = mg.gradcheck((lambda x: x * x, lambda dout, x: dout * 2.0 * x), {"x": x})
    assert report.largest < error and report.noise["x"] < 10 * error
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck((lambda x: x * x, one_wrong), {"x": x})
    assert (caught.value.index, caught.value.coordinates) == ((1, 2), ((1, 2),))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cause,vjp", [
    ("factor 2", lambda d, x, w: (d @ w.T, x.T @ d * 2.0)), ("no gradient", lambda d, x, w: (d @ w.T, None)),
    ("inputs swapped", lambda d, x, w: (x.T @ d, d @ w.T)), ("sign", lambda d, x, w: (-(d @ w.T), x.T @ d)),
])  # fmt: skip
def test_the_likely_cause_is_named(cause, vjp, dtype):
    inputs = normal(3, 3, dtype=dtype), normal(3, 3, dtype=dtype, seed=1)
    mg.gradcheck(MATMUL, inputs)
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck((np.matmul, vjp), inputs)
    assert caught.value.cause == cause


def test_the_functions_get_arrays_as_they_were_given():
    seen = []

    def forward(x, ids, scale, text):
        seen.append((type(x), x.dtype, x.flags.f_contiguous, ids, scale, text))
        return x[ids] * scale

    def vjp(dout, x, ids, scale, text):
        dx = np.zeros_like(x)
        np.add.at(dx, ids, dout * scale)
        return dx, None, None, None

    x, ids = np.asfortranarray(normal(3, 2, dtype=np.float32)), np.array([1, 0, 1])
    report = mg.gradcheck((forward, vjp), [x, ids, 2.0, "text"])
    assert set(report.errors) == {"input 0"}
    assert {each[:3] for each in seen} == {(np.ndarray, np.dtype(np.float32), True)}
    assert all(each[3] is ids and each[4:] == (2.0, "text") for each in seen)


def test_outputs_may_be_nested_and_dout_is_as_they_are():
    def forward(x, w):
        return {"y": x * w, "n": 3, "more": [(x.sum(), np.arange(2)), None, float((w**2).sum())]}

    def vjp(dout, x, w):
        (dsum, nothing), none, dsquares = dout["more"]
        assert nothing is none is dout["n"] is None and dsum.shape == dsquares.shape == ()
        return {"w": dout["y"] * x + 2 * w * dsquares, "x": dout["y"] * w + dsum}

    assert mg.gradcheck((forward, vjp), {"x": normal(3), "w": normal(3, seed=1)}).largest < 1e-9


def test_a_number_is_an_output():
    for total in (lambda x: (x**2).sum(), lambda x: float((x**2).sum())):
        mg.gradcheck((total, lambda dout, x: dout * 2 * x), normal(4, 3))


def changes_dout(dout, x):
    dout *= 2.0
    return dout * x


def changes_x(dout, x):
    x *= 2.0
    return dout * x


@pytest.mark.parametrize("vjp,error,message", [
    (lambda d, x: (d, d), TypeError, "vjp returned 2 gradients for 1 input (x); expected one gradient for each, None"),
    (lambda d, x: (d * 2 * x).astype(np.float32), mg.GradcheckError,
     "x: vjp returned a gradient of (2, 3) float32 for an input of (2, 3) float64"),
    (lambda d, x: (d * 2 * x).T, mg.GradcheckError, "x: vjp returned a gradient of (3, 2)"),
    (lambda d, x: "dx", TypeError, "vjp returned a str as the gradient of x; expected a numpy.ndarray"),
    (changes_dout, mg.GradcheckError, "vjp changed dout, which is not its own"),
    (changes_x, mg.GradcheckError, "fn changed x, its own input"),
])  # fmt: skip
def test_a_vjp_that_breaks_its_contract_is_refused_in_one_line(vjp, error, message):
    x = normal(2, 3)
    before = x.copy()
    found = refused((np.square, vjp), {"x": x}, error)
    assert found.startswith(message) and "\n" not in found
    np.testing.assert_array_equal(x, before)


def product_vjp(dout, x, w):
    return dout * w, dout * x


PRODUCT = "2 inputs (x, w); expected one gradient for each, None for an input that has none"


@pytest.mark.parametrize("form", [
    tuple, list, lambda grads: dict(zip("xw", grads, strict=True)), lambda grads: {"w": grads[1], "x": grads[0]},
])  # fmt: skip
def test_gradients_may_come_in_each_of_these_forms(form):
    pair = (np.multiply, lambda *args: form(product_vjp(*args)))
    assert mg.gradcheck(pair, {"x": normal(3), "w": normal(3, seed=1)}).largest < 1e-9


@pytest.mark.parametrize("form,message", [
    (lambda dx, dw: None, f"vjp returned None for {PRODUCT}"), (lambda dx, dw: dx, f"a numpy.ndarray for {PRODUCT}"),
    (lambda dx, dw: np.stack([dx, dw]), "a numpy.ndarray for 2 inputs"), (lambda dx, dw: [dx], "1 gradient for 2"),
    (lambda dx, dw: (dx, dw, None), "3 gradients for 2"), (lambda dx, dw: (g for g in (dx, dw)), "a generator for 2"),
    (lambda dx, dw: {"x": dx, "dw": dw}, "a dict of x, dw for 2 inputs (x, w)"),
    (lambda dx, dw: {"x": dx}, "a dict of x for 2 inputs (x, w)"),
    (lambda dx, dw: (dx.tolist(), dw), "vjp returned a list as the gradient of x; expected a numpy.ndarray"),
    (lambda dx, dw: (dx, {"w": dw}), "vjp returned a dict as the gradient of w; expected a numpy.ndarray"),
    (lambda dx, dw: (dx, np.ma.array(dw, mask=True)), "vjp returned a numpy.MaskedArray as the gradient of w"),
    (lambda dx, dw: (mg.tensor(dx), dw), "vjp returned a minigrad.Tensor as the gradient of x"),
])  # fmt: skip
def test_gradients_in_no_such_form_are_refused_in_one_line(form, message):
    pair = (np.multiply, lambda *args: form(*product_vjp(*args)))
    found = refused(pair, {"x": normal(3), "w": normal(3, seed=1)}, TypeError)
    assert message in found and "\n" not in found


def test_a_list_of_numbers_is_no_gradient_of_a_single_input():
    message = refused((np.square, lambda dout, x: (2 * dout * x).tolist()), {"x": normal(3)}, TypeError)
    assert message == "vjp returned a list as the gradient of x; expected a numpy.ndarray"


def test_gradients_of_nested_inputs_are_matched_by_their_keys():
    """Not by their order: a dict that lists b before a would pass for exchanged gradients."""

    def forward(p):
        return p["a"] * p["b"] ** 2

    def vjp(dout, p):
        return {"b": 2 * dout * p["a"] * p["b"], "a": dout * p["b"] ** 2}

    given = [{"a": normal(3), "b": normal(3, seed=1)}]
    assert set(mg.gradcheck((forward, vjp), given).errors) == {"input 0['a']", "input 0['b']"}
    mg.gradcheck((forward, lambda *args: (vjp(*args),)), given)
    with pytest.raises(mg.GradcheckError, match="analytic"):
        mg.gradcheck((forward, lambda dout, p: dict(zip("ab", vjp(dout, p).values(), strict=True))), given)
    half = refused((forward, lambda dout, p: [{"a": dout}]), given, TypeError)
    assert half == "vjp returned a dict of a as the gradient of input 0; expected the structure of that input"
    assert "analytic 0," in refused((forward, lambda dout, p: [None]), given)


def test_what_a_pair_was_called_with_is_said_where_it_fails():
    vjp, forward = "gradcheck called vjp(dout, x)", "gradcheck called forward(x) with NumPy's arrays; a pair is"
    for pair, note in ((np.square, lambda dout: dout), vjp), ((lambda: 0.0, np.square), forward):
        with pytest.raises(TypeError) as caught:
            mg.gradcheck(pair, {"x": normal(3)})
        assert caught.value.__notes__[0].startswith(note)


def test_a_masked_array_is_refused():
    """Its numbers below the mask would be checked too."""
    for fn in ((np.square, lambda dout, x: 2 * dout * x), lambda x: x * x):
        message = refused(fn, {"x": np.ma.array(normal(3), mask=[0, 1, 0])}, TypeError)
        assert message == "x is a masked array; give its numbers, as filled() or compressed() returns them"


def test_arrays_of_cupy_are_recognised_by_their_library(monkeypatch):
    """A stand-in, where there is no GPU: the simulator's arrays, which take part in NumPy's functions as CuPy's do."""
    monkeypatch.setattr(type(sim.asarray(np.ones(1))), "__module__", "cupy")
    x = sim.asarray(normal(3, 4))
    silu = lambda x: x / (1.0 + np.exp(-x))  # noqa: E731

    def dsilu(dout, x, sign=-1.0):
        s = 1.0 / (1.0 + np.exp(sign * x))
        return dout * s * (1.0 + x * (1.0 - s))

    assert mg.gradcheck((silu, dsilu), [x]).largest < 1e-9
    with pytest.raises(mg.GradcheckError, match="likely cause"):
        mg.gradcheck((silu, lambda dout, x: dsilu(dout, x, 1.0)), [x])
    assert refused(silu, [x], TypeError).startswith("CuPy arrays have no backward: give a pair (forward, vjp)")
    host = refused((silu, lambda dout, x: dsilu(dout, x).get()), [x], TypeError)
    assert host.startswith("vjp returned a numpy.ndarray as the gradient of input 0; expected a cupy.")


def test_a_missing_broadcast_sum_is_recognised():
    with pytest.raises(mg.GradcheckError, match="the sum over the repeated axes is missing") as caught:
        mg.gradcheck((np.add, lambda d, a, b: (d, d)), [normal(4, 3), normal(3)])
    assert (caught.value.input, caught.value.cause) == ("input 1", "missing broadcast sum")


def test_a_function_that_ignores_its_inputs_is_no_pass():
    message = refused((lambda x: np.ones(3), lambda d, x: 0.0 * x), normal(2))
    assert message == "fn's outputs do not depend on any input that is checked (input 0)"


def test_what_is_no_pair_is_refused():
    assert "fn is a tuple of 1; expected a function, or a pair" in refused((np.exp,), normal(2), TypeError)
    assert "fn is an int; expected a function, or a pair" in refused(3, normal(2), TypeError)
    assert "takes plain arrays" in refused(MATMUL, [mg.tensor([1.0])], TypeError)
    assert "input 0 is float16: finite differences need" in refused(MATMUL, [np.ones(2, np.float16)] * 2, TypeError)
    assert "inputs is an int; expected arrays" in refused(MATMUL, 3, TypeError)
    assert "nothing to check: no input is a numpy.ndarray of floating" in refused(MATMUL, [np.arange(3)], TypeError)


def test_arrays_of_a_device_need_a_pair():
    message = refused(lambda x: x, sim.asarray(np.ones(3)), TypeError)
    assert message.startswith("cudasim arrays have no backward: give a pair (forward, vjp) in place of fn")
