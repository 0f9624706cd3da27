"""The learning rate: a linear rise, then half a cosine down to its end value."""

import math

from minigrad.optim.optimizer import Optimizer


class CosineSchedule:
    """Sets `optimizer.learning_rate` for the step to come; call `step` after each update.

    The rate is a pure function of the step's number (`rate_at`), so no checkpoint saves it: resuming calls `seek`.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, total_steps: int, min_lr: float) -> None:
        self.optimizer, self.peak = optimizer, optimizer.learning_rate
        self.warmup_steps, self.total_steps, self.min_lr = warmup_steps, total_steps, min_lr
        self.seek(0)

    def rate_at(self, step: int) -> float:
        """The learning rate of update `step`, counted from 1: never 0 on the first, min_lr on the last."""
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.min_lr + 0.5 * (1.0 + math.cos(math.pi * progress)) * (self.peak - self.min_lr)

    def seek(self, steps_done: int) -> None:
        """Set the state after `steps_done` updates."""
        self.steps_done = steps_done
        self.optimizer.learning_rate = self.rate_at(steps_done + 1)

    def step(self) -> None:
        """Move on to the next update."""
        self.seek(self.steps_done + 1)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, min_lr: float = 0.0
) -> CosineSchedule:
    """Rise to the optimizer's learning rate over warmup_steps, then fall to min_lr at total_steps.

    Loshchilov & Hutter 2017, "SGDR", without restarts.
    """
    return CosineSchedule(optimizer, warmup_steps, total_steps, min_lr)
