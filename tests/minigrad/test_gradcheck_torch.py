"""gradcheck of PyTorch functions: custom `autograd.Function`s, modules, and what no gradient can be checked of."""

import numpy as np
import pytest

import minigrad as mg

pytestmark = pytest.mark.pytorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def function(forward, backward):
    """A custom Function's apply: forward(*tensors), and backward(dout, *tensors) -> gradients."""
    import torch

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.save_for_backward(*tensors)
            return forward(*tensors)

        @staticmethod
        def backward(ctx, dout):
            return backward(dout, *ctx.saved_tensors)

    return Custom.apply


def cube():
    return function(lambda x: x**3, lambda dout, x: dout * 3 * x**2)


def normal(*shape, dtype="float64", seed=0):
    import torch

    array = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(array, dtype=getattr(torch, dtype), requires_grad=True)


def refused(fn, inputs, error=mg.GradcheckError, **settings):
    """The message of the error, which is a single line."""
    with pytest.raises(error) as caught:
        mg.gradcheck(fn, inputs, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------- right and wrong gradients


@pytest.mark.parametrize("dtype,error", [("float64", 1e-9), ("float32", 1e-3)])
def test_one_wrong_coordinate_of_a_function_is_named(torch, dtype, error):
    def wrong(dout, x):
        dx = dout * 3 * x**2
        dx[1, 2] *= 1.1
        return dx

    x = normal(3, 4, dtype=dtype)
    assert mg.gradcheck(cube(), [x]).largest < error
    with pytest.raises(mg.GradcheckError, match="likely cause") as caught:
        mg.gradcheck(function(lambda x: x**3, wrong), {"x": x})
    found = caught.value
    assert (found.input, found.index, found.coordinates) == ("x", (1, 2), ((1, 2),))
    assert found.analytic == pytest.approx(1.1 * found.numeric, rel=10 * error)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cause,forward,backward,shapes", [
    ("sign", lambda x: x.sin(), lambda d, x: -d * x.cos(), [(2, 3)]),
    ("factor 2", lambda x: x**2, lambda d, x: d * x, [(2, 3)]),
    ("no gradient", lambda x: x.sin(), lambda d, x: None, [(2, 3)]),
    ("not finite", lambda x: x.sin(), lambda d, x: d * float("nan"), [(2, 3)]),
    ("inputs swapped", lambda a, b: a * b, lambda d, a, b: (d * a, d * b), [(2, 3), (2, 3)]),
    ("transposed", lambda a: a @ a, lambda d, a: (d @ a.T + a.T @ d).T, [(3, 3)]),
    ("mean not subtracted", lambda x: x.softmax(-1), lambda d, x: x.softmax(-1) * d, [(3, 5)]),
    ("mask forgotten", lambda x: x.relu(), lambda d, x: d, [(4, 5)]),
    ("overwritten", lambda w: w[[1, 0, 1, 1]], lambda d, w: w.new_zeros(w.shape).index_put((
        w.new_tensor([1, 0, 1, 1]).long(),), d), [(3, 2)]),
    ("factor 2", lambda x: x**2, lambda d, x: d * x, [(60, 50)]),
])  # fmt: skip
def test_the_likely_cause_is_named_in_both_precisions(torch, cause, forward, backward, shapes, dtype):
    inputs = [normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    mg.gradcheck(forward, inputs)
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(function(forward, backward), inputs)
    assert caught.value.cause == cause, str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_right_functions_raise_no_alarm_in_float32(torch, seed):
    x, w, big = (normal(*shape, dtype="float32", seed=seed) for shape in ((5, 7), (7, 3), (64, 100)))
    mg.gradcheck(lambda x, w: (x @ w).softmax(-1).log(), [x, w], seed=seed)
    mg.gradcheck(lambda x: torch.nn.functional.layer_norm(x, (7,)), [x], seed=seed)
    mg.gradcheck(lambda x: x.relu() * 100.0 + x.abs(), [x], seed=seed)
    mg.gradcheck(lambda x: x.exp().sum() + x.max(), [big], seed=seed)
    mg.gradcheck(lambda x: x.relu(), [big], seed=seed)
    mg.gradcheck(lambda x: x.softmax(-1).sum(-1), [x], seed=seed)  # rounding, around a sum that is always 1


def test_a_kernel_that_ignores_strides_is_seen_to_do_so(torch):
    """The check must not hand contiguous copies to it."""
    x = torch.tensor(np.random.default_rng(0).standard_normal((4, 6)))[:, ::2].requires_grad_()
    strides = []
    mg.gradcheck(lambda x: strides.append(x.stride()) or x.exp(), [x])
    assert set(strides) == {(6, 2)}
    overlapping = torch.ones(1, dtype=torch.float64).expand(4).requires_grad_()
    mg.gradcheck(lambda x: x.exp(), [overlapping])
    as_if_contiguous = function(lambda x: x.as_strided(x.shape, (3, 1)) ** 2, lambda d, x: 2 * d * x)
    mg.gradcheck(as_if_contiguous, [normal(4, 3)])
    with pytest.raises(mg.GradcheckError, match="input 0"):
        mg.gradcheck(as_if_contiguous, [normal(3, 4).detach().T.requires_grad_()])


def test_a_backward_function_that_changes_its_upstream_gradient_is_refused(torch):
    assert "changed its upstream gradient" in refused(function(lambda x: x * 2, lambda d, x: d.mul_(2)), [normal(3)])


def test_a_gradient_of_another_shape_is_refused_in_pytorchs_words(torch):
    assert "invalid gradient at index 0" in refused(function(lambda x: x * 2, lambda d, x: d[:2]), [normal(3)])
    assert "incorrect number of gradients" in refused(function(lambda x: x * 2, lambda d, x: (d, d)), [normal(3)])


@pytest.mark.parametrize("gradient,type_", [(lambda d: d.numpy(), "a numpy.ndarray"), (lambda d: [d], "a list"),
                                            (lambda d: 1.0, "a float")])  # fmt: skip
def test_what_is_no_gradient_is_refused(torch, gradient, type_):
    message = refused(function(lambda x: x * 2, lambda d, x: gradient(d)), [normal(3)])
    assert message == f"backward returned {type_}; expected a torch.Tensor or None for each input"


def test_a_gradient_with_the_digits_of_float32_is_refused(torch):
    """PyTorch casts it back without a word."""
    message = refused(function(lambda x: x.sin(), lambda d, x: (d * x.cos()).float()), {"x": normal(3)})
    assert message.startswith("the gradient of x has the digits of float32 alone")


def custom(torch, forward, backward, **more):
    methods = {"forward": forward, "backward": backward, **more}
    return type("Custom", (torch.autograd.Function,), {n: staticmethod(f) for n, f in methods.items()}).apply


def test_a_backward_function_that_writes_into_what_was_saved_is_refused(torch):
    """Its first call is right; gradcheck calls it twice."""

    def forward(ctx, x):
        ctx.factor = x * 1.0
        ctx.save_for_backward(ctx.factor)
        return x * ctx.factor.detach()

    def of_attribute(ctx, dout):
        return dout * ctx.factor.data.mul_(2.0)

    def of_saved(ctx, dout):
        return dout * ctx.saved_tensors[0].mul_(2.0)

    assert "or changes what was saved for it" in refused(custom(torch, forward, of_attribute), [normal(3)])
    assert "what was saved for backward was written into" in refused(custom(torch, forward, of_saved), [normal(3)])


def two_outputs(ctx, x):
    ctx.save_for_backward(x)
    return x.sin(), x.cos()


@pytest.mark.parametrize("backward,cause", [
    (lambda ctx, a, b: a * ctx.saved_tensors[0].cos() - b * ctx.saved_tensors[0].sin(), None),
    (lambda ctx, a, b: a * ctx.saved_tensors[0].cos(), "output ignored"),
    (lambda ctx, a, b: b * ctx.saved_tensors[0].cos() - a * ctx.saved_tensors[0].sin(), "outputs swapped"),
    (lambda ctx, a, b: None, "no gradient"),
])  # fmt: skip
def test_a_function_of_several_outputs(torch, backward, cause):
    fn = custom(torch, two_outputs, backward)
    if cause is None:
        mg.gradcheck(fn, [normal(3)])
        return
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(fn, [normal(3)])
    assert caught.value.cause == cause


def test_a_function_with_setup_context(torch):
    def save_output(ctx, inputs, output):
        ctx.save_for_backward(output)

    def save_input(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    exp = [lambda x: x.exp(), lambda ctx, d: d * ctx.saved_tensors[0]]
    mg.gradcheck(custom(torch, *exp, setup_context=save_output), [normal(3)])
    with pytest.raises(mg.GradcheckError, match="right with the output in the place of input 0"):
        mg.gradcheck(custom(torch, *exp, setup_context=save_input), [normal(3)])


def test_a_function_that_asks_which_gradients_are_needed(torch):
    def product(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    def where_needed(ctx, d):
        other = ctx.saved_tensors[::-1]
        return tuple(d * t if need else None for t, need in zip(other, ctx.needs_input_grad, strict=True))

    fn, x = custom(torch, product, where_needed), normal(3)
    mg.gradcheck(fn, [x, normal(3, seed=1)])
    mg.gradcheck(fn, [x, normal(3, seed=1).detach()])
    mg.gradcheck(fn, [x, x])
    with pytest.raises(mg.GradcheckError, match="half the true one"):
        mg.gradcheck(custom(torch, product, lambda ctx, d: (d * ctx.saved_tensors[1], None)), [x, x])


def test_a_function_that_writes_into_its_input(torch):
    def doubled(ctx, x):
        ctx.mark_dirty(x.mul_(2.0))
        return x

    in_place = custom(torch, doubled, lambda ctx, d: 2.0 * d)
    mg.gradcheck(lambda x: in_place(x.clone()), [normal(3)])
    with pytest.raises(RuntimeError) as caught:
        mg.gradcheck(in_place, [normal(3)])
    assert caught.value.__notes__[0].endswith("give lambda x: fn(x.clone())")


def test_outputs_that_are_marked_as_not_differentiable(torch):
    def sorted_(ctx, x):
        values, indices = x.sort()
        detached = x.detach() * 2.0
        ctx.mark_non_differentiable(indices, detached)
        ctx.save_for_backward(indices)
        return values, indices, detached

    def backward(ctx, dvalues, *_):
        return torch.zeros_like(dvalues).scatter(0, ctx.saved_tensors[0], dvalues)

    sort = custom(torch, sorted_, backward)
    mg.gradcheck(lambda x: sort(x)[:2], [normal(5)])
    assert "fn's output[2] changes with the inputs" in refused(sort, [normal(5)])


def test_a_function_that_is_not_deterministic_is_said_to_be_so(torch):
    """Not its backward, which is right for what forward drew."""
    assert "fn gave two different results" in refused(torch.nn.functional.dropout, [normal(30)])


def test_the_class_of_a_module_is_no_function(torch):
    assert (
        refused(torch.nn.ReLU, [normal(3)], TypeError) == "fn is the class ReLU; give a module, as ReLU(...) makes one"
    )
    assert "give a module" in refused(mg.nn.ReLU, [np.ones(3)], TypeError)


def test_the_parameters_of_a_module_are_checked_by_name(torch):
    layer, x = torch.nn.Linear(3, 2).double(), normal(5, 3)
    report = mg.gradcheck(lambda *_: layer(x) ** 2, dict(layer.named_parameters()))
    assert set(report.errors) == {"weight", "bias"} and report.largest < 1e-8
    mg.gradcheck(layer, x)


# ------------------------------------------------------------------------------------- libraries that are mixed


def test_a_function_of_another_library_is_never_passed_without_its_backward(torch):
    """minigrad's Tensors go through `apply` untouched, and its own backward would be checked instead."""
    doubled = function(lambda x: x * 2.0, lambda d, x: 7 * d)
    unsaved = type("Unsaved", (torch.autograd.Function,), {
        "forward": staticmethod(lambda ctx, x: x * 2.0), "backward": staticmethod(lambda ctx, d: 7 * d)})  # fmt: skip
    for fn in (doubled, unsaved.apply, lambda x: unsaved.apply(x).sum()):
        assert "PyTorch would never call its backward; give gradcheck torch tensors" in refused(fn, [np.ones(3)])
    assert refused(unsaved, [np.ones(3)], TypeError) == "fn is the class Unsaved; give Unsaved.apply"


@pytest.mark.parametrize("fn,inputs", [
    (lambda torch: lambda x: torch.from_numpy(x.data), lambda torch: np.ones(3)),
    (lambda torch: lambda x: mg.tensor(x.detach().numpy()), lambda torch: normal(3)),
    (lambda torch: torch.mul, lambda torch: [normal(3), mg.tensor([1.0])]),
])  # fmt: skip
def test_no_gradient_passes_from_one_library_to_another(torch, fn, inputs):
    assert "no gradient passes from one library to another" in refused(fn(torch), inputs(torch), TypeError)


def test_what_fn_got_is_said_where_it_fails(torch):
    with pytest.raises(TypeError) as caught:
        mg.gradcheck(torch.exp, [np.ones(3)])
    assert "give that library's tensors" in caught.value.__notes__[0]


# ------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("fn", [
    lambda x: {"loss": x.exp().sum(), "more": [x * 2, (x.argmax(), None, 3, "text")]},
    lambda x: x.max(dim=1), lambda x: (x * 2, np.arange(3)), lambda x: [x, x], lambda x: (x, x.new_ones(3)),
])  # fmt: skip
def test_outputs_may_be_nested_and_hold_integers(torch, fn):
    assert mg.gradcheck(fn, [normal(2, 3)]).largest < 1e-9


@pytest.mark.parametrize("fn,message", [
    (lambda x: None, "fn returned None; expected a torch.Tensor, or a list, tuple or dict of them; is `return` miss"),
    (lambda x: x.sum().item(), "fn returned a float; .*: leave out float"), (lambda x: 3, "fn returned an int; "),
    (lambda x: [x, {"loss": 0.5}], r"fn returned a float at out\[1\]\['loss'\]; "), (lambda x: {1}, "returned a set"),
    (lambda x: (x for _ in "ab"), "returned a generator"), (lambda x: x.detach().numpy(), "returned a numpy.ndarray"),
    (lambda x: [], "fn returned nothing; "), (lambda x: x > 0, "fn returned no floating-point numbers; "),
    (lambda x: x.float(), "fn's output is float32 for float64 inputs; something inside narrows it"),
    (lambda x: [x, x.bfloat16()], r"fn's output\[1\] is bfloat16 for float64"), (lambda x: x + 1j, "is complex128"),
])  # fmt: skip
def test_an_output_that_cannot_be_checked_is_refused(torch, fn, message):
    with pytest.raises(TypeError, match=message) as caught:
        mg.gradcheck(fn, [normal(2, 3)])
    assert "\n" not in str(caught.value)


def test_an_output_off_the_graph_is_refused_if_it_changes(torch):
    assert "fn's output changes with the inputs, but no graph" in refused(lambda x: x.detach() * 2, [normal(3)])
    assert "fn's output[1] changes" in refused(lambda x: (x * 2, x.detach()), [normal(3)])


def test_a_function_that_ignores_its_inputs_is_no_pass(torch):
    weight = normal(3)
    for fn in (lambda x: weight.detach(), lambda x: weight * 2, lambda x: [weight, weight.detach()]):
        message = refused(fn, {"x": normal(3, seed=1)})
        assert message == "fn's outputs do not depend on any input that is checked (x)"
    mg.gradcheck(lambda a, b: a * 2.0, [normal(3), normal(4)])  # one of them does
    mg.gradcheck(lambda a: (a - a) * 3.0, [normal(3)])  # and a gradient may be 0


def test_outputs_of_another_shape_nearby_are_refused(torch):
    x = torch.tensor([1.0, 1.0001], dtype=torch.float64, requires_grad=True)
    assert "shapes [(2,)] at its inputs and [(1,)] a step away" in refused(lambda x: x[x > 0.9999], [x])


# ------------------------------------------------------------------------------------- inputs


def test_only_what_requires_a_gradient_is_checked_and_all_else_handed_on(torch):
    ids, mask, setting = torch.tensor([1, 0, 1]), torch.ones(3, 1), {"scale": 2.0}
    got = []

    def fn(weight, ids, mask, setting, scale):
        got.append((ids, mask, setting, scale))
        return weight[ids] * mask * setting["scale"] * scale

    report = mg.gradcheck(fn, (normal(2, 2), ids, mask, setting, 0.5))
    assert set(report.errors) == {"input 0"}
    assert all(a is ids and b is mask and c is setting and d == 0.5 for a, b, c, d in got)


def test_inputs_may_be_nested_or_a_single_tensor(torch):
    report = mg.gradcheck(lambda parts, named: torch.cat(parts) * named["w"],
                          {"parts": [normal(2), normal(1)], "named": {"w": normal(3)}})  # fmt: skip
    assert set(report.errors) == {"parts[0]", "parts[1]", "named['w']"}
    mg.gradcheck(cube(), normal(3))
    mg.gradcheck(torch.nn.Linear(3, 2).double(), (t for t in [normal(5, 3)]))
    x = normal(3)
    mg.gradcheck(torch.mul, [x, x])  # one tensor twice


@pytest.mark.parametrize("made,message", [
    (lambda torch: [torch.ones(3)], "nothing to check: no input requires a gradient; call requires_grad_"),
    (lambda torch: [normal(2, dtype="bfloat16")], "input 0 is bfloat16: finite differences need more digits"),
    (lambda torch: [normal(2, dtype="float16")], "input 0 is float16"),
    (lambda torch: [normal(2, dtype="complex128")], "input 0 is complex128: complex numbers are not checked"),
    (lambda torch: {"x": torch.eye(2).to_sparse().requires_grad_()}, "x is sparse_coo; expected a strided tensor"),
])  # fmt: skip
def test_inputs_that_cannot_be_checked_are_refused(torch, made, message):
    assert message in refused(torch.exp, made(torch), TypeError)


def test_a_device_is_for_minigrad_alone(torch):
    assert "device='cuda-sim' moves minigrad Tensors" in refused(torch.exp, normal(2), TypeError, device="cuda-sim")


def test_the_callers_tensors_stay_as_they_were(torch):
    x, w = normal(2, 3), normal(3, seed=1)
    (x * w).sum().backward()
    held = [(t, t.data_ptr(), t.detach().clone(), t.grad, t.grad.clone(), t._version) for t in (x, w)]

    def in_place(x, w):
        x.data.mul_(2.0)
        return x * w

    wrong = function(lambda x, w: x * w, lambda d, x, w: (d * w, (d * x)[0]))
    mg.gradcheck(lambda x, w: x * w, [x, w])
    with pytest.raises(mg.GradcheckError, match="analytic"):
        mg.gradcheck(wrong, [x, w])
    with pytest.raises(ZeroDivisionError):
        mg.gradcheck(lambda x, w: x * (1 // 0), [x, w])
    assert refused(in_place, [x, w]) == "fn changed input 0, its own input"
    for tensor, pointer, values, grad, grads, version in held:
        assert tensor.data_ptr() == pointer and tensor.grad is grad and tensor._version == version
        assert torch.equal(tensor, values) and torch.equal(grad, grads) and tensor.requires_grad
    assert not any(p is not None for p in (x.grad_fn, w.grad_fn))


def test_it_works_inside_no_grad_and_with_a_tensor_of_a_graph(torch):
    made = normal(3) * 2
    with torch.no_grad():
        mg.gradcheck(cube(), [made])


@pytest.mark.gpu
def test_a_function_on_a_gpu(torch):
    x = normal(3, 4).detach().cuda().requires_grad_()
    mg.gradcheck(cube(), [x])
    with pytest.raises(mg.GradcheckError) as caught:
        mg.gradcheck(function(lambda x: x**3, lambda d, x: d * 2 * x**2), [x])
    assert caught.value.cause
