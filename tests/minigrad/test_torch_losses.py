"""Losses as functions and as modules: values and gradients are PyTorch's."""

import contextlib

import numpy as np
import pytest
from torch_peer import RNG, check_modules, compare, normal, product

import minigrad as mg
from minigrad import nn

with contextlib.suppress(ImportError):  # then the marker leaves the tests out
    import torch
pytestmark = pytest.mark.pytorch

REDUCTIONS = ["mean", "sum", "none"]
SHAPES = [(5,), (4, 5), (4, 5, 3), (2, 5, 3, 2)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_of_indices_and_probabilities(shape, reduction):
    axis = 1 if len(shape) > 1 else 0
    targets = RNG.integers(0, 5, [n for i, n in enumerate(shape) if i != axis])
    some = np.where(RNG.random(targets.shape) < 0.3, 2, targets)
    probabilities = RNG.dirichlet(np.ones(5), targets.shape)
    probabilities = np.ascontiguousarray(np.moveaxis(probabilities, -1, axis))
    for setting in product(weight=[None, RNG.uniform(0.5, 2, 5)], label_smoothing=[0.0, 0.3]):
        setting["reduction"] = reduction
        compare("cross_entropy", normal(*shape), targets, **setting)
        compare("cross_entropy", normal(*shape), some, ignore_index=2, **setting)
        compare("cross_entropy", normal(*shape), probabilities, **setting)
    for weight in (None, RNG.uniform(0.5, 2, 5)):
        compare("nll_loss", normal(*shape), targets, weight=weight, reduction=reduction)
        compare("nll_loss", normal(*shape), some, weight=weight, reduction=reduction, ignore_index=2)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_batch_of_ignored_targets_only(reduction):
    """The mean over nothing is NaN, as in PyTorch; the gradient is not."""
    for setting in product(weight=[None, np.ones(5)], label_smoothing=[0.0, 0.3]):
        compare("cross_entropy", normal(2, 5), np.array([-100, -100]), reduction=reduction, **setting)


@pytest.mark.filterwarnings("ignore:.*batchmean")  # of PyTorch
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_two_arrays(reduction):
    a, b = normal(4, 3), normal(4, 3)
    for function in ("mse_loss", "l1_loss"):
        compare(function, a, b, reduction=reduction)
        compare(function, a, b, reduction=reduction, weight=RNG.uniform(0.5, 2, (4, 3)))
    for limit in (0.2, 1.0, 3):
        compare("smooth_l1_loss", a, b, reduction=reduction, beta=limit)
        compare("huber_loss", a, b, reduction=reduction, delta=limit)
    compare("smooth_l1_loss", a, b, reduction=reduction, beta=0.0)
    compare("huber_loss", a, b, reduction=reduction, weight=RNG.uniform(0.5, 2, (4, 3)))
    with pytest.warns(UserWarning, match=r"input has shape \(4, 3\), target \(3,\)"):
        mg.F.mse_loss(mg.tensor(a), b[0])
    p, log_q = RNG.dirichlet(np.ones(3), 4), np.log(RNG.dirichlet(np.ones(3), 4))
    p_with_zero = np.where([[True, True, False]] * 4, p, 0.0)
    for how in (reduction, "batchmean"):
        compare("kl_div", log_q, p, reduction=how)
        compare("kl_div", log_q, np.log(p), reduction=how, log_target=True)
        ours, theirs = mg.F.kl_div(log_q, p_with_zero, reduction=how), torch.nn.functional.kl_div(
            torch.tensor(log_q), torch.tensor(p_with_zero), reduction=how)  # fmt: skip
        np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    x, p, weight = normal(4, 3) * 20, RNG.random((4, 3)), RNG.random((4, 3))
    for setting in product(weight=[None, weight[0], weight]):
        compare("binary_cross_entropy", RNG.random((4, 3)), p, reduction=reduction, **setting)
    for setting in product(weight=[None, weight], pos_weight=[None, weight[0] * 3]):
        for target in (p, (p > 0.5).astype(float)):
            compare("binary_cross_entropy_with_logits", x, target, reduction=reduction, **setting)
    check_modules(nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=weight[0]), torch.nn.BCEWithLogitsLoss(
        torch.tensor(weight), reduction=reduction, pos_weight=torch.tensor(weight[0])), x, p)  # fmt: skip


def test_the_loss_of_a_sure_and_right_answer_is_not_zero():
    """exp(-50), where PyTorch's formula for a negative logit gives 0; so are gradients."""
    for x, target in ((50.0, 1.0), (-50.0, 0.0)):
        logit = mg.tensor(np.array([x]), requires_grad=True)
        loss = mg.F.binary_cross_entropy_with_logits(logit, np.array([target]))
        loss.backward()
        np.testing.assert_allclose([loss.data, np.abs(logit.grad[0])], np.exp(-50.0), rtol=1e-14)


def test_a_certain_and_wrong_probability_costs_100_and_has_a_finite_gradient():
    arrays = np.array([0, 0, 1, 1, 0.5, 1e-30, 1]), np.array([0, 1, 0, 1, 0.5, 1, 0.5])
    ours, theirs = (
        [mg.tensor(a, requires_grad=True) for a in arrays],
        [torch.tensor(a).requires_grad_() for a in arrays],
    )
    for inputs, function in ((ours, mg.F), (theirs, torch.nn.functional)):
        loss = function.binary_cross_entropy(*inputs)
        loss.backward()
        assert loss.item() > 3 * 100 / 7
    for x, peer in zip(ours, theirs, strict=True):  # PyTorch's limit of the gradient is 1e-12 in float32
        np.testing.assert_allclose(x.grad, peer.grad.numpy(), rtol=1e-8)


def test_one_outlier_of_infinity_leaves_the_gradients_of_huber_and_smooth_l1_finite():
    """Squares of it would be infinite, and infinity times 0 is NaN."""
    difference = np.array([np.inf, -np.inf, np.nan, 1.0, -1.0, 0.0, 2.0, 1e200])
    for function, limit in (("huber_loss", {"delta": 1.0}), ("smooth_l1_loss", {"beta": 0.5})):
        compare(function, difference, np.zeros(8), reduction="none", **limit)


def test_one_hot():
    ids = np.array([[1, 0], [3, 1]])
    for n in (-1, 4, 6):
        ours, theirs = mg.F.one_hot(ids, n).data, torch.nn.functional.one_hot(torch.tensor(ids), n).numpy()
        np.testing.assert_array_equal(ours, theirs, strict=True)
    with pytest.raises(IndexError, match=r"class 3 is outside 0\.\.2"):
        mg.F.one_hot(ids, 3)


BAD_LOSSES = {
    "reduction": (lambda x: mg.F.cross_entropy(x, [0, 1], reduction="average"), ValueError, "'average'; expected"),
    "smoothing": (lambda x: mg.F.cross_entropy(x, [0, 1], label_smoothing=2.0), ValueError, "label_smoothing is 2.0"),
    "weight": (lambda x: mg.F.cross_entropy(x, [0, 1], np.ones(3, np.float32)), ValueError, r"\(3,\), expected \(5,\)"),
    "weight dtype": (lambda x: mg.F.cross_entropy(x, [0, 1], np.ones(5)), TypeError, "float32, weight float64"),
    "classes last": (lambda x: mg.F.cross_entropy(x.reshape(1, 2, 5), [[0, 1]]), ValueError, r"need targets \(1, 5\)"),
    "probabilities": (lambda x: mg.F.cross_entropy(x, np.ones((2, 4), np.float32)), ValueError, "shape of input"),
    "size_average": (lambda x: mg.F.mse_loss(x, x, True), TypeError, "size_average is not supported"),
    "integers": (lambda x: mg.F.cross_entropy(np.ones((2, 5), int), [0, 1]), TypeError, "input is int64"),
    "no probabilities": (lambda x: mg.F.binary_cross_entropy(x * 2, x), ValueError, r"input has entries outside 0"),
    "no targets": (lambda x: mg.F.binary_cross_entropy(x, -x), ValueError, r"target has entries outside 0"),
    "weights": (lambda x: mg.F.binary_cross_entropy(x, x, np.ones((3, 1, 1))), ValueError, "weight makes"),
    "target's shape": (lambda x: mg.F.binary_cross_entropy(x, x[0]), ValueError, r"target has shape \(5,\)"),
    "delta": (lambda x: mg.F.huber_loss(x, x, delta=0), ValueError, "delta is 0; expected more than 0"),
    "beta": (lambda x: mg.F.smooth_l1_loss(x, x, beta=-1), ValueError, "beta is -1; expected at least 0"),
    "kl batchmean": (lambda x: mg.F.mse_loss(x, x, reduction="batchmean"), ValueError, "'batchmean'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_what_a_loss_cannot_do_is_said_in_one_line(name):
    call, error, message = BAD_LOSSES[name]
    with pytest.raises(error, match=message):
        call(mg.tensor(np.ones((2, 5), np.float32)))


@pytest.mark.filterwarnings("ignore:.*batchmean")  # of PyTorch
@pytest.mark.parametrize("name", [
    "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "KLDivLoss", "CrossEntropyLoss", "NLLLoss",
])  # fmt: skip
def test_losses_as_modules(name):
    of_classes = name in ("CrossEntropyLoss", "NLLLoss")
    second = RNG.integers(0, 5, 4) if of_classes else RNG.random((4, 5))
    for reduction in REDUCTIONS:
        ours, theirs = (getattr(library, name)(reduction=reduction) for library in (nn, torch.nn))
        check_modules(ours, theirs, RNG.random((4, 5)) if name == "BCELoss" else normal(4, 5), second)
    if of_classes:
        weight = RNG.random(5)
        check_modules(getattr(nn, name)(weight), getattr(torch.nn, name)(torch.tensor(weight)), normal(4, 5), second)
