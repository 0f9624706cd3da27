"""Checks of the model: its first loss, its gradients, and whether it can learn anything."""

import math

import numpy as np

from minigrad import optim
from minigrad.recording import no_grad
from tiny_transformer_np.model import INIT_STD
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight.common import CheckFailed, backward, cut, shortened, twin
from tiny_transformer_np.training.trainer import Trainer

LOSS_TOLERANCE = 0.5  # around ln V, in nats
OVERFIT_STEPS = 60


def initial_loss(trainer: Trainer) -> str:
    """The initial loss is that of guessing, ln V, within LOSS_TOLERANCE."""
    model, V = twin(trainer.model).eval(), trainer.model.config.vocab_size
    ids, targets = shortened(trainer)
    with no_grad():
        loss = model(ids, targets, ignore_index=IGNORE_INDEX).item()
    if not math.isfinite(loss):
        bad = [name for name, p in model.named_parameters() if not np.isfinite(p.data).all()]
        where = f"{bad[0]} holds such numbers" if bad else "the weights are finite, so an operation is at fault"
        raise CheckFailed(
            f"{loss}",
            f"the loss before the first step is {loss}; expected ln V = {math.log(V):.2f}: {where}. Usually weights "
            "that were never drawn, or a division by 0.",
            fatal=True,
        )
    # a tied head makes each token likely to be its own successor
    own = INIT_STD * model.config.n_embd / math.sqrt(2.0) if model.head is None else 0.0
    lowest = math.log(V) - own * float((ids == targets).mean())
    highest = np.logaddexp(math.log(V), own if own else -math.inf) + 0.5 * INIT_STD**2 * model.config.n_embd
    measured = f"{loss:.3f}; ln V is {math.log(V):.3f}"
    if loss > highest + LOSS_TOLERANCE:
        raise CheckFailed(
            measured,
            f"the loss before the first step is {loss:.2f}; guessing gives ln V = {math.log(V):.2f}. Usually first "
            f"weights that are too large (GPT-2 draws them with a spread of {INIT_STD}) or a scale left out.",
        )
    if loss < lowest - LOSS_TOLERANCE:
        raise CheckFailed(
            measured,
            f"the loss before the first step is {loss:.2f}, far below that of guessing, ln V = {math.log(V):.2f}. "
            "Usually the targets leak into the inputs, or the weights have been trained before.",
        )
    return measured


def gradients(trainer: Trainer) -> str:
    """Every parameter gets a finite gradient that is not 0 everywhere."""
    model = twin(trainer.model).train()
    backward(model, *shortened(trainer), trainer.config.seed)
    grads = {name: p.grad for name, p in model.named_parameters()}
    infinite = [name for name, grad in grads.items() if grad is not None and not np.isfinite(grad).all()]
    _refuse(infinite, len(grads), "get a gradient that is not finite. Usually log or sqrt of 0, or an overflow", True)
    _refuse(
        [name for name, grad in grads.items() if grad is None or not grad.any()], len(grads),
        "get no gradient, or one of zeros. Usually something cut off the graph (detach, .data, no_grad), "
        "a module that forward forgets, or weights of zeros behind it",
    )  # fmt: skip
    return f"finite and not 0, in all {len(grads)} parameters"


def movement(trainer: Trainer) -> str:
    """One step of AdamW moves every parameter."""
    model, config = twin(trainer.model).train(), trainer.config
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    owned = {id(p) for _, p in trainer.optimizer.named_parameters()}
    forgotten = [name for name, p in trainer.model.named_parameters() if id(p) not in owned]
    _refuse(forgotten, len(before), "are unknown to the optimizer, so they will never move")
    backward(model, *shortened(trainer), config.seed)
    rate = trainer.optimizer.learning_rate or config.learning_rate  # `learning_rate` checks for 0
    optim.AdamW(optim.decay_groups(model, 0.0), rate, config.betas, config.eps).step()
    _refuse(
        [name for name, p in model.named_parameters() if np.array_equal(p.data, before[name])], len(before),
        f"do not move in a step of AdamW at learning rate {rate:g}. Usually no gradient, or a rate below the "
        "weights' rounding",
    )  # fmt: skip
    return f"all {len(before)} parameters, in one step"


def _refuse(names: list[str], n: int, what: str, fatal: bool = False) -> None:
    """CheckFailed naming parameters, if there are any."""
    if names:
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise CheckFailed(f"not so in {len(names)} of {n}", f"{len(names)} of {n} parameters {what}: {listed}.", fatal)


def overfitting(trainer: Trainer) -> str:
    """The model can memorise a few windows: its loss gets below that of guessing by frequency."""
    model = twin(trainer.model).eval()  # without dropout
    batch = shortened(trainer)
    ids, targets = cut(batch, min(4, max(1, 64 // batch[0].shape[1])), 64)
    share = np.unique(targets[targets != IGNORE_INDEX], return_counts=True)[1] / (targets != IGNORE_INDEX).sum()
    blind = -float((share * np.log(share)).sum())  # guessing by frequency
    goal = max(0.8 * blind, 0.1)
    rate = min(0.03, 0.4 / model.config.n_embd)  # wider models need a lower learning rate
    groups = optim.decay_groups(model, 0.0)
    optimizer = optim.AdamW(groups, rate, (0.9, 0.95), arena=optim.GradientArena(groups))  # as in training
    losses: list[float] = []
    while len(losses) <= OVERFIT_STEPS:
        optimizer.zero_grad()
        loss = model(ids, targets, ignore_index=IGNORE_INDEX)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or losses[-1] < goal or not loss.requires_grad:
            break
        loss.backward()
        optimizer.step(norm=optimizer.grad_norm(), max_norm=1.0)
    measured = f"{losses[0]:.2f} to {losses[-1]:.2f} in {len(losses) - 1} steps on {targets.size} tokens"
    if not losses[-1] < goal:
        raise CheckFailed(
            measured,
            f"{targets.size} tokens cannot be learned by heart: the loss goes from {losses[0]:.2f} to "
            f"{losses[-1]:.2f} in {len(losses) - 1} steps; expected below {goal:.2f}, since guessing by frequency "
            f"alone gives {blind:.2f}. Usually a gradient of the wrong sign or size, or inputs that do not reach the "
            "output.",
        )
    return measured
