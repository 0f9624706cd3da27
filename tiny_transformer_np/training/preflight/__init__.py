"""Checks before the first step of a run, for mistakes in the model or the data that raise no error.

Each check measures one value, and explains what a wrong one usually means. They work on copies: training afterwards
gives the same bits as without them.
"""

import time
from collections.abc import Callable

import numpy as np

from minigrad import random
from tiny_transformer_np.training.preflight.causality import no_lookahead
from tiny_transformer_np.training.preflight.check_gradients import gradcheck
from tiny_transformer_np.training.preflight.common import CheckFailed
from tiny_transformer_np.training.preflight.data import learning_rate, split, targets
from tiny_transformer_np.training.preflight.model import gradients, initial_loss, movement, overfitting
from tiny_transformer_np.training.trainer import Trainer

LARGE = 10_000_000  # parameters; a larger model gets only the checks of a few short forward passes

#: (check, whether it needs a model whose numbers are finite, whether it is done for large models too)
CHECKS = (
    (learning_rate, False, True),
    (targets, False, True),
    (split, False, True),
    (initial_loss, True, True),
    (no_lookahead, True, True),
    (gradients, True, True),
    (movement, True, False),
    (overfitting, True, False),
    (gradcheck, True, False),
)


def preflight(trainer: Trainer, whole: bool = False, say: Callable[[str], object] = print) -> list[tuple[str, str]]:
    """Run the checks on a Trainer that has not trained yet, with a line for each. Returns [(name, explanation)].

    An explanation says what was measured, what was expected, and what that usually means. whole: all checks, however
    large the model. The trainer, its weights and the random position stay as they are.
    """
    failures, numbers = [], True
    small = whole or trainer.model.num_parameters() <= LARGE
    with random.kept(), np.errstate(all="ignore"):  # NaN and infinity are reported by the checks
        for check, of_model, cheap in CHECKS:
            name, started = check.__name__.replace("_", " "), time.perf_counter()
            if not (cheap or small) or (of_model and not numbers):
                say(_line("-", name, "left out: " + ("large model" if numbers else "numbers are not finite"), started))
                continue
            try:
                mark, found = "ok", check(trainer)
            except CheckFailed as failure:
                mark, found = "FAILED", failure.measured
                numbers = numbers and not failure.fatal
                failures.append((name, str(failure)))
            say(_line(mark, name, found, started))
    return failures


def _line(mark: str, name: str, found: str, started: float) -> str:
    return f"preflight {mark:<7} {name:<14} {found:<58} {time.perf_counter() - started:5.2f} s"
