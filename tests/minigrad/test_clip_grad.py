"""Gradients are clipped as in PyTorch: whatever it takes is clipped in place, whatever it refuses is refused."""

import numpy as np
import pytest
from small_net import in_arena

import kernels
import minigrad as mg
from minigrad import nn, optim

SHAPES = [(4, 3), (3,), (2, 5), ()]
NORM_TYPES = [2.0, 2, 1, 1.5, 3.0, np.inf, "inf", -np.inf, 0, -1.0]


def with_gradients(scale=1.0, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = [nn.Parameter(np.zeros(shape, dtype)) for shape in SHAPES]
    for p in params:
        p.grad = np.asarray(scale * rng.standard_normal(p.shape), dtype)
    return params


def peers_of(params):
    import torch

    peers = [torch.nn.Parameter(torch.tensor(p.data)) for p in params]
    for p, peer in zip(params, peers, strict=True):
        peer.grad = None if p.grad is None else torch.tensor(p.grad)
    return peers


def require_equal(params, peers, rtol=1e-12):
    for p, peer in zip(params, peers, strict=True):
        np.testing.assert_allclose(p.grad, peer.grad.numpy(), rtol=rtol)


@pytest.mark.pytorch
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_clipping_is_that_of_torch_and_returns_the_norm_before(kernel_set, scale, max_norm):
    import torch

    params = with_gradients(scale)
    peers = peers_of(params)
    expected = torch.nn.utils.clip_grad_norm_(peers, max_norm)
    with kernels.use(kernel_set):
        norm = optim.clip_grad_norm_(iter(params), max_norm)
    assert isinstance(norm, mg.Tensor) and (norm.shape, norm.dtype) == ((), np.float64)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-12)
    require_equal(params, peers)
    after = np.sqrt(sum(float((p.grad**2).sum()) for p in params))
    assert after == pytest.approx(min(norm.item(), max_norm), rel=1e-2)  # torch too divides by norm + 1e-6


@pytest.mark.pytorch
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_every_norm_is_that_of_torch(norm_type, dtype):
    import torch

    params = with_gradients(dtype=dtype)
    peers, rtol = peers_of(params), {2: 4e-3, 4: 2e-6, 8: 1e-12}[np.dtype(dtype).itemsize]
    expected = torch.nn.utils.clip_grad_norm_(peers, 0.5, norm_type)
    norm = optim.clip_grad_norm_(params, 0.5, norm_type=norm_type)
    assert norm.dtype == dtype and norm.item() == pytest.approx(expected.item(), rel=rtol)
    require_equal(params, peers, rtol)


@pytest.mark.pytorch
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf])
def test_a_norm_that_is_not_finite_scales_as_in_torch(norm_type, bad):
    import torch

    params = with_gradients()
    params[1].grad[2] = bad
    peers = peers_of(params)
    expected = torch.nn.utils.clip_grad_norm_(peers, 1.0, norm_type)
    with np.errstate(invalid="ignore"):
        norm = optim.clip_grad_norm_(params, 1.0, norm_type)
    np.testing.assert_equal(norm.item(), expected.item())
    require_equal(params, peers)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_asked_for_an_error_it_raises_one_and_leaves_the_gradients(kernel_set, bad):
    params = with_gradients()
    params[1].grad[2] = bad
    copies = [p.grad.copy() for p in params]
    message = r"that of parameter 1, of shape \(3,\), is not finite"
    with kernels.use(kernel_set), pytest.raises(RuntimeError, match=message):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    for p, copy in zip(params, copies, strict=True):
        np.testing.assert_array_equal(p.grad, copy)


WAYS = {
    "one parameter": lambda params: params[0],
    "a list": lambda params: params[:1],
    "a tuple": lambda params: tuple(params[:1]),
    "an iterator": lambda params: iter(params[:1]),
    "a generator": lambda params: (p for p in params[:1]),
    "values of a dict": lambda params: {"w": params[0]}.values(),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_parameters_come_in_any_way(way):
    """`clip_grad_norm_(one_parameter, 1.0)` once did nothing."""
    params = with_gradients(100.0)
    norm = np.linalg.norm(params[0].grad)
    assert optim.clip_grad_norm_(way(params), 1.0).item() == pytest.approx(norm)
    assert np.linalg.norm(params[0].grad) == pytest.approx(1.0, rel=1e-5)
    params = with_gradients(100.0)
    optim.clip_grad_value_(way(params), 0.5)
    assert np.abs(params[0].grad).max() == 0.5 and np.abs(params[1].grad).max() > 0.5


def test_parameters_without_gradients_are_passed_over():
    params = with_gradients()
    params[0].grad = None
    norm = optim.clip_grad_norm_(params, 1e9).item()
    assert norm == pytest.approx(np.sqrt(sum(float((p.grad**2).sum()) for p in params[1:])), rel=1e-12)
    assert optim.clip_grad_norm_([nn.Parameter(np.ones(2))], 1.0).item() == 0.0
    assert optim.clip_grad_norm_([], 1.0).item() == 0.0


def test_it_is_found_where_pytorch_has_it():
    assert nn.utils.clip_grad_norm_ is optim.clip_grad_norm_ and nn.utils.clip_grad_value_ is optim.clip_grad_value_


def test_a_used_up_generator_is_told():
    used_up = (p for p in [])
    with pytest.warns(UserWarning, match="yields nothing, or has been used up"):
        optim.clip_grad_norm_(used_up, 1.0)


@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("weights", "parameters is a str; expected a tensor or a list"),
        (None, "parameters is a NoneType"),
        (nn.Linear(2, 2), r"parameters is a Linear; .*model\.parameters\(\)"),
        ({"w": 1}, "parameters is a dict"),
        (["w"], "parameter 0 is 'w'; expected a tensor"),
        ([("w", nn.Parameter(np.ones(2)))], r"parameter 0 is \('w', .*model\.parameters\(\)"),
        ([nn.Parameter(np.ones(2)), 1.0], "parameter 1 is 1.0"),
        ([np.ones(2)], "parameter 0 is array"),
    ],
)
def test_what_holds_no_gradients_is_refused(clip, parameters, message):
    with pytest.raises(TypeError, match=message):
        clip(parameters, 1.0)


@pytest.mark.parametrize("value", [-1.0, np.nan, "a lot"])
def test_a_limit_that_is_none_is_refused(value):
    """PyTorch turns the gradients round for a negative one."""
    params = with_gradients()
    before = [p.grad.copy() for p in params]
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        with pytest.raises(ValueError):
            clip(params, value)
    with pytest.raises(ValueError):
        optim.clip_grad_norm_(params, 1.0, norm_type=np.nan)
    for p, grad in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.grad, grad)


@pytest.mark.pytorch
@pytest.mark.parametrize("clip_value", [0.0, 0.5, np.inf])
def test_values_are_clipped_as_in_torch(clip_value):
    import torch

    params = with_gradients()
    params[0].grad[0] = [np.nan, np.inf, -np.inf]
    peers = peers_of(params)
    torch.nn.utils.clip_grad_value_(peers, clip_value)
    assert optim.clip_grad_value_(params, clip_value) is None
    require_equal(params, peers, 0)


def test_a_scalar_used_twice_is_clipped_too():
    gain = nn.Parameter(np.array(2.0))
    (gain * gain).backward()  # its two uses add up to a 0-d gradient
    assert optim.clip_grad_norm_([gain], 1.0).item() == 4.0
    assert gain.grad == pytest.approx(1.0, rel=1e-6)
    gain.grad = np.float64(4.0)  # set by hand, a number
    optim.clip_grad_norm_([gain], 1.0)
    assert gain.grad == pytest.approx(1.0, rel=1e-6)


def test_clipping_works_on_the_arena_itself():
    params = [nn.Parameter(np.zeros(shape, np.float32)) for shape in SHAPES[:3]]
    optimizer = in_arena(params)
    for p in params:
        p.grad = np.full(p.shape, 2.0, np.float32)
    optimizer.grad_norm()  # gathers
    norm = optim.clip_grad_norm_(params, 1.0).item()
    assert norm == pytest.approx(2 * 25**0.5)
    assert optimizer.grad_norm() == pytest.approx(1.0, rel=1e-5)
    assert optim.clip_factor(norm, 1.0) == pytest.approx(0.1, rel=1e-6)
    assert optim.clip_factor(0.5, 1.0) == 1.0
