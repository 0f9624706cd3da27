"""The gradient of the whole model against slopes that are measured, and what training makes of it against that."""

import math

import numpy as np

import kernels
import minigrad
from kernels.arrays import on_host
from minigrad import optim, random
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight.pair_tests import CheckFailed, backward, cut, first_batch, twin

GRADCHECK_TOKENS = 12


def gradcheck(trainer):
    """Backward's gradient against measured slopes of the whole model; then what the kernels in use give, and sums."""
    ids, targets = cut(first_batch(trainer), 1, GRADCHECK_TOKENS)
    seed = trainer.config.seed
    with kernels.use("reference"):
        model = twin(trainer.model).to(on_host).train().astype(np.float64)
        named = dict(model.named_parameters())

        def loss(*_):
            random.seek(seed, 1)  # the same dropout every time
            return model(ids, targets, ignore_index=IGNORE_INDEX)

        error = _slopes(model, loss)
        if error is not None:
            raise CheckFailed("the gradient is not the slope", _explain_slopes(loss, named, error))
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
    return f"the slope in random directions, on {ids.size} tokens"


def _compare(model, exact, usually):
    """CheckFailed if a gradient of the model is not that of the plain kernels, up to float32's rounding."""
    total = math.sqrt(sum(float((grad**2).sum()) for grad in exact.values()))
    used = dict(model.named_parameters())
    for name, grad in reversed(exact.items()):  # from the output on: the first to differ is nearest to the fault
        norm, off = np.linalg.norm(grad), np.linalg.norm(on_host(used[name].grad) - grad)
        if not off <= 1e-2 * norm + 1e-6 * total:
            raise CheckFailed(
                f"another gradient of {name}",
                f"the gradient of {name} differs from that of the plain kernels in float64 by {off:.2g}, where its "
                f"norm is {norm:.2g}; expected rounding. {usually}",
            )


def _slopes(model, loss):
    """Check the gradient along two random directions through all parameters. Returns the GradcheckError, or None.

    Each parameter is its value plus t[0], t[1] times a direction, so two numbers t are what is checked. A direction
    has length 1 in each parameter, so that small ones count.
    """
    rng = np.random.default_rng(0)
    places = [(module, name, p) for _, module in model.named_modules() for name, p in module._members()
              if isinstance(p, minigrad.nn.Parameter)]  # fmt: skip
    directions = [[rng.standard_normal(p.shape) / math.sqrt(p.size) for _ in range(2)] for _, _, p in places]

    def along(t):
        for (module, name, p), (a, b) in zip(places, directions, strict=True):
            setattr(module, name, minigrad.Tensor(p.data) + t[0] * a + t[1] * b)
        return loss()

    try:
        minigrad.gradcheck(along, {"directions": np.zeros(2)})
    except minigrad.GradcheckError as error:
        return error
    finally:
        for module, name, p in places:
            setattr(module, name, p)
    return None


def _explain_slopes(loss, named, error):
    """Which parameter, nearest to the output, has the wrong gradient."""
    for name, p in reversed(named.items()):
        try:
            minigrad.gradcheck(loss, {name: p}, max_coordinates=0, n_directions=2)
        except minigrad.GradcheckError as wrong:
            numbers, *reasons = str(wrong).split("\n")  # of the reasons, the last line tells the likely cause
            return " ".join([
                f"the gradient of the loss is not its slope. From the output on, the first that is wrong: {numbers}.",
                "Look at the rules between it and the output.", *(reason.strip() for reason in reasons[-1:]),
            ])  # fmt: skip
    return f"the gradient of the loss is not its slope: {error}, though each parameter by itself is right."
