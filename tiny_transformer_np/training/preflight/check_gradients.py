"""Preflight's gradient check: the whole model against the numerical gradient, the kernels in use, and the sums."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import kernels
import minigrad
from kernels.arrays import Array, on_host
from minigrad import optim, random
from minigrad._tensor import Tensor
from minigrad.nn import Parameter
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight.common import CheckFailed, backward, cut, first_batch, twin
from tiny_transformer_np.training.trainer import Trainer

GRADCHECK_TOKENS = 12


def gradcheck(trainer: Trainer) -> str:
    """The gradient of the model: by the reference kernels, by the kernels in use, and as a sum of two passes."""
    ids, targets = cut(first_batch(trainer), 1, GRADCHECK_TOKENS)
    seed = trainer.config.seed
    with kernels.use("reference"):
        model = twin(trainer.model).to(on_host).train().astype(np.float64)
        named = dict(model.named_parameters())

        def loss(*_: Any) -> Tensor:
            random.seek(seed, 1)  # the same dropout every time
            return model(ids, targets, ignore_index=IGNORE_INDEX)

        error = _wrong_along_a_direction(model, loss)
        if error is not None:
            raise CheckFailed("the gradient is wrong along a direction", _explain(loss, named, error))
        backward(model, ids, targets, seed)
    exact = {name: p.grad for name, p in named.items() if p.grad is not None}
    used, summing = twin(trainer.model).train(), twin(trainer.model).train()
    backward(used, ids, targets, seed)
    _compare(used, exact, "Usually a wrong fast kernel: rule it out with --kernels reference.")
    optim.GradientArena(optim.decay_groups(summing, 0.0)).gather()  # in training gradients are summed in an arena
    for n in 1, 2:
        backward(summing, ids, targets, seed)
        _compare(summing, {name: n * grad for name, grad in exact.items()},
                 "It is right without the GradientArena that gradients are summed in. Usually `=` for `+=` where a "
                 "parameter is used more than once.")  # fmt: skip
    return f"the numerical gradient in random directions, on {ids.size} tokens"


def _compare(model: TransformerLM, exact: dict[str, Array], usually: str) -> None:
    """CheckFailed if a gradient differs from `exact`, {name: gradient}, by more than float32's rounding."""
    total = math.sqrt(sum(float((grad**2).sum()) for grad in exact.values()))
    used = dict(model.named_parameters())
    for name, grad in reversed(exact.items()):  # from the output on: the first that differs is nearest to the fault
        found = used[name].grad
        assert found is not None  # every weight takes part in the loss
        norm, off = np.linalg.norm(grad), np.linalg.norm(on_host(found) - grad)
        if not off <= 1e-2 * norm + 1e-6 * total:
            raise CheckFailed(
                f"another gradient of {name}",
                f"the gradient of {name} differs from that of the reference kernels in float64 by {off:.2g}, where its "
                f"norm is {norm:.2g}; expected rounding. {usually}",
            )


def _wrong_along_a_direction(model: TransformerLM, loss: Callable[[], Tensor]) -> minigrad.GradcheckError | None:
    """The GradcheckError of the gradient along two random directions through all parameters; None if it is right.

    The checked function takes two numbers t: each parameter p is replaced by p + t[0] * a + t[1] * b. Directions a, b
    have length 1 in each parameter, so that small parameters count as much as large ones.
    """
    rng = np.random.default_rng(0)
    places = [(module, name, p) for _, module in model.named_modules() for name, p in module._members()
              if isinstance(p, minigrad.nn.Parameter)]  # fmt: skip
    directions = [[rng.standard_normal(p.shape) / math.sqrt(p.size) for _ in range(2)] for _, _, p in places]

    def along(t: Tensor) -> Tensor:
        for (module, name, p), (a, b) in zip(places, directions, strict=True):
            vars(module)[name] = minigrad.Tensor(p.data) + t[0] * a + t[1] * b  # setattr would want a Parameter
        return loss()

    try:
        minigrad.gradcheck(along, {"directions": np.zeros(2)})
    except minigrad.GradcheckError as error:
        return error
    finally:
        for module, name, p in places:
            vars(module)[name] = p
    return None


def _explain(loss: Callable[..., Tensor], named: dict[str, Parameter], error: minigrad.GradcheckError) -> str:
    """A message that names the parameter nearest to the output whose gradient is wrong."""
    for name, p in reversed(named.items()):
        try:
            minigrad.gradcheck(loss, {name: p}, max_coordinates=0, n_directions=2)
        except minigrad.GradcheckError as wrong:
            numbers, *reasons = str(wrong).split("\n")  # of the reasons, the last line tells the likely cause
            return " ".join([
                "the gradient of the loss disagrees with the numerical gradient. From the output on, the first that is "
                f"wrong: {numbers}.",
                "Look at the operations between it and the output.", *(reason.strip() for reason in reasons[-1:]),
            ])  # fmt: skip
    return (
        f"the gradient of the loss disagrees with the numerical gradient: {error}, though that of each parameter "
        "alone is right."
    )
