"""gradcheck of JAX functions. `test_gradcheck_jax` runs this in a process of its own: JAX starts threads for good."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import minigrad as mg


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def cube(backward):
    @jax.custom_vjp
    def op(x):
        return x**3

    op.defvjp(lambda x: (x**3, x), lambda x, dout: (backward(dout, x),))
    return jax.jit(op)  # else it would be traced at every call


def right(dout, x):
    return dout * 3 * x**2


def refused(fn, inputs, error=mg.GradcheckError):
    with pytest.raises(error) as caught:
        mg.gradcheck(fn, inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_wrong_coordinate_is_named(dtype):
    x = normal(3, 4)
    assert x.dtype == dtype
    report = mg.gradcheck(cube(right), x)
    assert report.largest < (1e-9 if dtype == "float64" else 1e-3)
    with pytest.raises(mg.GradcheckError, match="likely cause") as caught:
        mg.gradcheck(cube(lambda dout, x: right(dout, x).at[1, 2].mul(1.1)), {"x": x})
    assert (caught.value.input, caught.value.index, caught.value.coordinates) == ("x", (1, 2), ((1, 2),))


@pytest.mark.parametrize("cause,backward", [
    ("sign", lambda d, x: -right(d, x)), ("factor 2", lambda d, x: right(d, x) / 2),
    ("no gradient", lambda d, x: 0 * x), ("not finite", lambda d, x: d * jnp.nan),
])  # fmt: skip
def test_the_likely_cause_is_named(dtype, cause, backward):
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(cube(backward), normal(2, 4))
    assert caught.value.cause == cause


def test_parameters_in_a_tree_and_settings(dtype):
    def loss(params, x, activation, power):
        hidden = getattr(jnp, activation)(x @ params["w"] + params["b"])
        return {"loss": (hidden**power).sum(), "best": hidden.argmax(), "n": power, "hidden": [hidden, None]}

    params = {"w": normal(3, 2), "b": jnp.zeros(2)}
    report = mg.gradcheck(
        jax.jit(loss, static_argnums=(2, 3)),
        {"params": params, "x": normal(1, 3, seed=1), "activation": "tanh", "power": 2},
    )
    assert set(report.errors) == {"params['w']", "params['b']", "x"}
    report = mg.gradcheck(jnp.matmul, [normal(2, 3), np.ones((3, 2))])  # JAX takes NumPy's arrays as its own
    assert set(report.errors) == {"input 0", "input 1"}


def test_what_cannot_be_checked_is_refused(dtype):
    x = normal(3)
    assert "do not depend on any input" in refused(lambda x: jnp.ones(3), x)
    assert "fn returned a float; expected a jax.Array" in refused(lambda x: float(x.sum()), x, TypeError)
    assert "no gradient passes from one library to another" in refused(lambda x: np.asarray(x), x, TypeError)
    assert "no floating-point numbers" in refused(lambda x: x > 0, x, TypeError)
    assert "input 0 is bfloat16" in refused(jnp.exp, x.astype("bfloat16"), TypeError)
    assert "belong to JAX (input 0) and minigrad (input 1)" in refused(jnp.exp, [x, mg.tensor([1.0])], TypeError)
    assert "nothing to check" in refused(jnp.exp, jnp.arange(3), TypeError)
    with pytest.raises(mg.GradcheckError, match="analytic 0,"):
        mg.gradcheck(lambda x: jax.lax.stop_gradient(x) * 2, x)


def test_a_pair_of_functions_of_jax_arrays(dtype):
    mg.gradcheck((jnp.exp, lambda dout, x: dout * jnp.exp(x)), normal(3))
    with pytest.raises(mg.GradcheckError, match="sign"):
        mg.gradcheck((jnp.exp, lambda dout, x: -dout * jnp.exp(x)), normal(3))


def custom(function, fwd, bwd):
    op = jax.custom_vjp(function)
    op.defvjp(fwd, bwd)
    return op


@pytest.mark.parametrize("fwd", [lambda x: (1.5 * x**2, x), lambda x: ((x**2).sum(), x)])
def test_a_fwd_that_is_another_function_is_refused(dtype, fwd):
    """jax.grad differentiates what fwd computes; a call without jax.grad never runs it."""
    op = custom(lambda x: x**2, fwd, lambda x, dout: (2 * x * dout,))
    assert "its forward for backward is another function" in refused(op, normal(3))


def test_a_gradient_with_the_digits_of_a_narrower_dtype_is_refused(dtype):
    narrower = {"float64": "float32", "float32": "float16"}[dtype]
    op = custom(lambda x: x**2, lambda x: (x**2, x), lambda x, dout: ((2 * x * dout).astype(narrower),))
    assert f"has the digits of {narrower} alone" in refused(op, normal(3, 4))


def test_an_output_that_backward_ignores_or_exchanges_is_named(dtype):
    def op(backward):
        both = lambda x: {"a": jnp.sin(x), "b": jnp.cos(x)}  # noqa: E731
        return custom(both, lambda x: (both(x), x), backward)

    x = normal(3)
    mg.gradcheck(op(lambda x, d: (d["a"] * jnp.cos(x) - d["b"] * jnp.sin(x),)), x)
    ignored, swapped = lambda x, d: (d["a"] * jnp.cos(x),), lambda x, d: (d["b"] * jnp.cos(x) - d["a"] * jnp.sin(x),)
    for backward, cause in (ignored, "output ignored"), (swapped, "outputs swapped"):
        with pytest.raises(mg.GradcheckError) as caught:
            mg.gradcheck(op(backward), x)
        assert caught.value.cause == cause


def test_a_kink_is_reported(dtype):
    (kink,) = mg.gradcheck(jax.nn.relu, {"x": jnp.array([0.0, 1.0, -1.0])}).kinks
    assert kink.where == "index (0,)"
