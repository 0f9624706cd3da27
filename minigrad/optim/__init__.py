"""Optimizers with PyTorch's arguments and parameter groups.

    optimizer = optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.999  # every setting may be changed between two steps

The update rules are functions of arrays; the classes hold the arrays and call them. Adam works on parameters as they
are, each `p.data` looked up when the step begins. Given a `GradientArena`, as the Trainer gives it one, it updates all
parameters, clipping included, in one pass over flat arrays.
"""

from minigrad.nn.utils import clip_factor, clip_grad_norm_, clip_grad_value_
from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.gradient_arena import GradientArena
from minigrad.optim.moments import adam_step
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.param_groups import decay_groups
from minigrad.optim.sgd import SGD, sgd_step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "GradientArena",
    "Optimizer",
    "adam_step",
    "clip_factor",
    "clip_grad_norm_",
    "clip_grad_value_",
    "decay_groups",
    "sgd_step",
]
