"""The Trainer's uses of `minigrad.debug`: verify a step, locate NaN or infinity, post-mortem, --step-backward."""

from __future__ import annotations

import bdb
import contextlib
import functools
import pdb
import shlex
from typing import TYPE_CHECKING

from kernels.system import cli
from minigrad.debug import check_mode, find_nonfinite
from minigrad.debug.verification import chosen_nodes, verify
from tiny_transformer_np.config import ConfigError

if TYPE_CHECKING:  # the trainer imports this module
    from minigrad.debug.nonfinite import BadTensor
    from tiny_transformer_np.training.trainer import Trainer

VERIFIED_NODES = 4  # a time, so that `verify_every` costs little


def verify_step(trainer: Trainer) -> None:
    """Verify a few random nodes of the next step and report which. VerificationError names a wrong node.

    The trainer's state stays as it is.
    """
    step = trainer.step + 1
    with check_mode():
        loss = trainer.loss_of(step, micro=0)
    verify(loss, VERIFIED_NODES, seed=step)
    nodes = chosen_nodes(loss, VERIFIED_NODES, seed=step)
    names = ", ".join(f"{node.op} in {node.module}" if node.module else node.op for node in nodes)
    trainer.progress.say(f"step {step}: verified {names}")


def locate_nonfinite(trainer: Trainer, step: int) -> tuple[int, BadTensor] | None:
    """Replay a step that had NaN or infinity. -> (micro-batch, BadTensor), or None if the replay is finite."""
    leaves = dict(trainer.model.named_parameters())
    for micro in range(trainer.config.grad_accumulation_steps):
        found = find_nonfinite(functools.partial(trainer.loss_of, step, micro), leaves)
        if found:
            return micro, found
    return None


def explain_nonfinite(trainer: Trainer, step: int) -> str:
    """The result of `locate_nonfinite` as text; with the file of the saved state, if there is a run."""
    located = locate_nonfinite(trainer, step)
    if located is None:
        lines = ["replayed, the step stays finite: the gradients' squares overflow, or a kernel is not deterministic"]
    else:
        micro, found = located
        lines = [f"in micro-batch {micro}: {found.message}"]
    if trainer.run:
        path = trainer.run.post_mortem(step)
        try:
            trainer.save_checkpoint(path, check_logits=False)
        except FloatingPointError as error:
            return "\n".join([*lines, str(error)])
        except OSError as error:  # the message about the step must still appear
            return "\n".join([*lines, f"the state before it could not be saved: {cli.describe(error)}"])
        train = cli.command("tiny_transformer_np.training", "minigrad-train", "train.py")
        lines.append(f"to look at it: {train} --post-mortem {shlex.quote(str(path))}")
    return "\n".join(lines)


def post_mortem(trainer: Trainer) -> bool:
    """Replay the step after a saved state, and stop in the operation that makes the first NaN or infinity.

    Opens pdb at its first line, with its inputs as locals. Returns whether one was found.
    """
    step = trainer.step + 1
    located = locate_nonfinite(trainer, step)
    if located is None:
        print(f"step {step} stays finite in this replay")
        return False
    micro, found = located
    print(f"step {step}, micro-batch {micro}: {found.message}")
    if found.rerun:
        function, args, kwargs = found.rerun
        with contextlib.suppress(bdb.BdbQuit):
            pdb.Pdb().runcall(function, *args, **kwargs)
    return True


def step_backward(trainer: Trainer, at_step: int | None = None, break_on: str | None = None) -> None:
    """Train up to `at_step`, the next step unless given, and open an interactive session in its backward.

    break_on: the module, operation or id to stop at first. The weights change in memory, as in training; the trainer
    must have no run folder. Raises ConfigError for a step or a target that does not exist.
    """
    from minigrad.debug.session import Abandoned, NoSuchNode, Session  # imports pdb, which training does not need

    at_step = trainer.step + 1 if at_step is None else at_step
    if trainer.step == trainer.total_steps:
        raise ConfigError(
            f"the run is complete at step {trainer.step}; give a larger max_steps, or an earlier checkpoint"
        )
    if not trainer.step < at_step <= trainer.total_steps:
        raise ConfigError(f"at_step is {at_step}; expected {trainer.step + 1} to {trainer.total_steps}")
    while trainer.step + 1 < at_step:
        trainer.train_step()
    print(f"step {at_step}, backward: `help` lists the commands", flush=True)
    trainer.backward = Session(break_on, dict(trainer.model.named_parameters())).backward
    try:
        with check_mode():
            loss, grad_norm = trainer.train_step()
    except Abandoned:
        trainer.optimizer.zero_grad()  # of an earlier micro-batch
        print(f"left half-way: the weights are those of step {trainer.step}, nothing was written")
        return
    except NoSuchNode as error:
        raise ConfigError(f"break_on: {error}") from None
    finally:
        del trainer.backward
    print(
        f"step {at_step} is complete: loss {float(loss):.4f}, gradient norm {float(grad_norm):.4g}; nothing was written"
    )
