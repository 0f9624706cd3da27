"""A failed check explains itself: which coordinates, how well that is known, why; and kinks are no failures."""

import numpy as np
import pytest
from test_gradcheck import BUGS, normal, softmax, with_backward

import minigrad as mg
from minigrad.gradient_checking.libraries import probe_of
from minigrad.gradient_checking.numerical_gradient import sweep

CAUSES = {
    "sign": "sign", "factor-2": "factor 2", "zero": "no gradient", "nothing-returned": "no gradient",
    "nan": "not finite", "dout-ignored": "right only for all-ones upstream", "broadcast-sum-scaled": "factor N",
    "broadcast-first-row": "missing broadcast sum", "transposed": "transposed", "inputs-swapped": "inputs swapped",
    "softmax-without-mean": "mean not subtracted", "softmax-right-for-ones": "right only for all-ones upstream",
    "set-for-add": "overwritten", "fancy-plus-equals": "overwritten", "one-row-of-many": "scale forgotten",
    "large-transposed": "transposed",
}  # fmt: skip


def failure(fn, inputs, **setting):
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(fn, inputs, **setting)
    return caught.value


@pytest.mark.parametrize("name", CAUSES)
def test_the_likely_cause(name):
    forward, _, wrong, shapes = BUGS[name]
    error = failure(with_backward(forward, wrong, len(shapes)), normal(*shapes))
    assert error.cause == CAUSES[name]
    assert "likely cause: " in str(error)


# A cause that is named must be there. name: forward, the wrong backward function, shapes, the cause.
SUBTLE = {
    "a factor that is an axis's length, without any sum": (
        np.square, lambda d, x: d * 6 * x, [(3,)], "scale forgotten"),
    "a factor that is a ratio of counts": (np.square, lambda d, x: d * 3 * x, [(3,)], "scale forgotten"),
    "a sum for a mean": (lambda x: x.mean(axis=1), lambda d, x: d[:, None] + 0 * x, [(2, 5)], "factor N"),
    "one operand for both": (np.multiply, lambda d, a, b: (d * a, d * a), [(2, 3), (2, 3)], "wrong operand"),
    "input in the place of the output": (np.exp, lambda d, x: d * x, [(2, 3)], "wrong operand"),
    "straight through": (np.round, lambda d, x: d, [(2, 3)], "no dependence"),
    "float32 within": (np.sin, lambda d, x: d * np.cos(x) * (1 + 3e-5 * x), [(2, 3)], None),
    "the last row of equal gradients lost": (
        lambda x: x.sum(), lambda d, x: d * (np.arange(4) < 3)[:, None] + 0 * x, [(4, 3)], "lost"),
    "moved by one row": (np.sin, lambda d, x: np.roll(d * np.cos(x), 1, axis=0), [(5, 3)], "shifted"),
    "softmax with another mean": (
        softmax, lambda d, x: softmax(x) * (d - d.mean(axis=-1, keepdims=True)), [(3, 5)],
        "right only for all-ones upstream"),
    "no mask, and another factor": (lambda x: np.maximum(x, 0), lambda d, x: 3 * d * (1 + x**2), [(4, 5)], None),
}  # fmt: skip


@pytest.mark.parametrize("forward,wrong,shapes,cause", SUBTLE.values(), ids=SUBTLE)
def test_no_other_cause_is_named_than_the_one_that_is_there(forward, wrong, shapes, cause):
    error = failure(with_backward(forward, wrong, len(shapes)), normal(*shapes))
    assert error.cause == cause, str(error)


def two(x):
    return with_backward(np.sin, lambda d, x: d * np.cos(x))(x), with_backward(np.cos, lambda d, x: 0 * d)(x)


def test_an_output_whose_upstream_gradient_is_ignored_is_named():
    error = failure(two, normal((4,)))
    assert error.cause == "output ignored" and "the upstream gradient of fn's output[1] is ignored" in str(error)
    named = failure(lambda x: dict(zip("ab", two(x), strict=True)), normal((4,)))
    assert "fn's output['b'] is ignored" in str(named)


def test_a_gradient_with_the_digits_of_float32_is_refused():
    """It is right to 1e-8, and every later step of the user's has lost half its digits."""
    narrowed = with_backward(np.sin, lambda d, x: (d * np.cos(x)).astype(np.float32).astype(np.float64))
    error = failure(narrowed, {"x": normal((3,))[0]})
    assert (error.input, error.cause) == ("x", "dtype")
    assert "the gradient of x has the digits of float32 alone" in str(error)
    mg.gradcheck(lambda x: x.sum() * 2.0, normal((3,)))  # one number, which stands at each place
    mg.gradcheck(lambda x: x.exp()[:1], normal((3,)))


def test_a_function_that_differs_where_it_is_recorded_is_refused():
    error = failure(lambda x: x * (2.0 if mg.graph.thread.recording else 3.0), normal((3,)))
    assert error.cause == "other values" and "\n" not in str(error)


@pytest.mark.parametrize("size,n_wrong", [(1_000_000, 1), (50_000, 3)])
def test_wrong_coordinates_among_a_million_take_few_evaluations(size, n_wrong):
    calls = 0
    places = np.random.default_rng(5).choice(size, n_wrong, replace=False)

    def wrong(dout, x):
        dx = dout * 2 * x
        dx.flat[places] += 1.0
        return dx

    square = with_backward(np.square, wrong)

    def counted(x):
        nonlocal calls
        calls += 1
        return square(x)

    error = failure(counted, normal((1000, size // 1000)), n_directions=1)
    assert {int(np.ravel_multi_index(c, (1000, size // 1000))) for c in error.coordinates} == set(places.tolist())
    assert error.index in error.coordinates
    assert error.analytic - error.numeric == pytest.approx(1.0, rel=1e-6)
    # 20 halvings of 4 evaluations for each; the rest measures noise and looks for a pattern in a sample of 40 and,
    # where an axis is not longer than 200, in the line along it
    assert calls < 4 * 20 * n_wrong + 300 + 4 * (size // 1000 if size // 1000 <= 200 else 0)


def test_a_forgotten_mean_is_recognised_in_a_large_input():
    """Few of its coordinates are looked at, but the rows that hold them are looked at whole."""

    def normalised(x):
        return (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)

    def without_mean(dout, x):
        xhat, std = normalised(x), x.std(axis=-1, keepdims=True)
        return (dout - xhat * (dout * xhat).mean(axis=-1, keepdims=True)) / std

    error = failure(with_backward(normalised, without_mean), normal((4, 16, 32)))
    assert error.cause == "mean not subtracted" and "axis 2" in str(error)


def test_all_wrong_coordinates_of_a_small_input_are_counted():
    def wrong(dout, x):
        dx = np.array(dout * 2 * x)
        dx[1] = 0.0
        return dx

    error = failure(with_backward(np.square, wrong), {"x": normal((3, 7))[0]})
    assert (error.input, error.coordinates) == ("x", tuple((1, i) for i in range(7)))
    assert "wrong: 7 of 21 coordinates: (1, 0), (1, 1), (1, 2), (1, 3), (1, 4) ..." in str(error)


def test_the_noise_floor_is_measured():
    """Around a large constant the numerical gradient has fewer digits, and the sweep says how few."""
    plain, lifted = (probe_of(lambda x, c=c: x.exp() + c, {"x": np.array([0.5])}) for c in (0.0, 1e9))
    floors = []
    for probe in (plain, lifted):
        upstream = [np.ones(1)]
        numeric, floor, _ = sweep(probe, "x", np.ones(1), upstream, probe.sums(upstream))
        assert abs(numeric - np.exp(0.5)) < 10 * floor + 1e-9
        floors.append(floor)
    assert floors[0] < 1e-9
    assert 1e-7 < floors[1] < 1e-2


def test_a_strong_curvature_is_measured_with_smaller_steps():
    x = np.array([1e-3, 2e-3])
    report = mg.gradcheck(lambda x: mg.log(x), [x], step=3e-4)  # that step is a third of x
    assert report.largest < 1e-6
    off = with_backward(np.log, lambda dout, x: dout / x * (1 + 1e-4))
    failure(off, [x], step=3e-4)


# --------------------------------------------------------------------------------------------- kinks


def test_a_kink_is_reported_and_is_no_failure():
    report = mg.gradcheck(lambda x: mg.relu(x), {"x": np.array([0.0, 1.0, -1.0])})
    (kink,) = report.kinks
    assert (kink.input, kink.where, kink.analytic) == ("x", "index (0,)", 0.0)
    sides = sorted([abs(kink.left), abs(kink.right)])
    assert sides[0] == pytest.approx(0.0, abs=1e-8)
    assert sides[1] > 0.1
    assert mg.gradcheck(lambda x: mg.relu(x), [np.array([0.5, 1.0])]).kinks == ()


def test_a_kink_is_reported_even_where_the_central_difference_agrees():
    (kink,) = mg.gradcheck(lambda x: mg.abs(x), [np.array([0.0, 1.0])]).kinks
    assert kink.left == pytest.approx(-kink.right)


def test_a_kink_nearby_is_reported_and_the_gradient_still_checked():
    x = np.array([1e-4, 1.0])  # closer than the step
    (kink,) = mg.gradcheck(lambda x: mg.relu(x), [x]).kinks
    assert "within" in kink.where
    half = with_backward(lambda x: np.maximum(x, 0), lambda dout, x: 0.5 * dout * (x > 0))
    assert failure(half, [x]).cause == "factor 2"


def test_a_gradient_outside_both_sides_of_a_kink_fails():
    beyond = with_backward(np.abs, lambda dout, x: dout * np.where(x == 0, 1.5, np.sign(x)))
    error = failure(beyond, [np.array([0.0, 1.0])])
    assert error.coordinates == ((0,),)


def test_a_bug_elsewhere_is_not_excused_by_kinks_in_a_large_input():
    def wrong(dout, x):
        dx = dout * (x > 0)
        dx[7] *= 2.0
        return dx

    x = np.abs(normal((3000,))[0]) + 0.1
    x[:20] = 0.0
    x[7] = 1.0
    mg.gradcheck(lambda x: mg.relu(x), [x])
    failure(with_backward(lambda x: np.maximum(x, 0), wrong), [x], n_directions=32)


# ------------------------------------------------------------------------------- promises of a backward function


def test_a_backward_function_that_modifies_dout_is_refused():
    def wrong(dout, x):
        dout *= 2.0
        return dout * x

    error = failure(with_backward(np.square, wrong), normal((3,)))
    assert error.cause == "modifies dout"
    assert "rule_backward changed dout" in str(error)


def scale_backward(dout, x):
    x *= 2.0
    return dout * x


def test_a_backward_function_that_modifies_what_was_saved_is_refused():
    error = failure(lambda x: mg.record(np.square(x.data), (x,), scale_backward, x=x.data), normal((3,)))
    assert error.cause == "modifies inputs"
    assert "scale_backward changed x" in str(error)


def test_a_function_that_modifies_its_input_is_refused():
    def wrong(x):
        x.data += 1.0
        return x * 2.0

    assert failure(wrong, normal((3,))).cause == "modifies inputs"


def test_a_backward_function_that_is_not_deterministic_is_refused():
    rng = np.random.default_rng(0)
    error = failure(with_backward(np.sin, lambda dout, x: dout * rng.random(x.shape)), {"angle": normal((3,))[0]})
    assert (error.input, error.cause) == ("angle", "nondeterministic")


@pytest.mark.parametrize("function,cause", [
    (lambda d, x: d.astype(np.float32), "dtype"), (lambda d, x: d.T, "transposed"),
                                        (lambda d, x: d.sum(), "shape")])  # fmt: skip
def test_a_gradient_of_another_kind_is_refused(function, cause):
    error = failure(with_backward(np.copy, function), {"x": normal((2, 3))[0]})
    assert (error.input, error.cause) == ("x", cause)
    assert "rule_backward returned a gradient of" in str(error)


def test_an_output_that_is_not_finite_is_said_to_be_so():
    with np.errstate(divide="ignore"):
        assert failure(lambda x: mg.log(x), [np.zeros(2)]).cause == "not finite"


def test_a_backward_function_that_does_not_follow_dout_is_named():
    error = failure(with_backward(np.square, lambda dout, x: dout * 2 * x + 0.1), normal((3,)))
    assert error.cause == "not linear in dout"


def test_the_watcher_in_place_is_put_back():
    seen = []
    mg.graph.observer = lambda *args: seen.append(args)
    try:
        before = mg.graph.observer
        mg.gradcheck(lambda x: x.exp(), normal((3,)))
        assert mg.graph.observer is before
    finally:
        mg.graph.observer = None
    assert not seen
