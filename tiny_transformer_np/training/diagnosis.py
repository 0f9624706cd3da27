"""What the Trainer asks `minigrad.debug` when something is, or may be, wrong with a step."""

import bdb
import contextlib
import pdb

from minigrad.debug import check_mode, find_nonfinite, verify

VERIFIED_NODES = 4  # at a time: `verify_every` is meant to cost little


def verify_step(trainer):
    """Check a few random nodes of the step to come. VerificationError names one that is wrong. Changes nothing."""
    step = trainer.step + 1
    with check_mode():
        loss = trainer.loss_of(step, micro=0)
    verify(loss, VERIFIED_NODES, seed=step)


def locate_nonfinite(trainer, step):
    """Replay a step whose numbers went bad. -> (micro-batch, BadTensor), or None if the replay stays finite."""
    leaves = dict(trainer.model.named_parameters())
    for micro in range(trainer.config.grad_accumulation_steps):
        found = find_nonfinite(lambda micro=micro: trainer.loss_of(step, micro), leaves)
        if found:
            return micro, found
    return None


def explain_nonfinite(trainer, step):
    """What `locate_nonfinite` finds, in lines for a person; and where the state was saved, if there is a run."""
    located = locate_nonfinite(trainer, step)
    if located is None:
        lines = ["replayed, the step stays finite: the gradients' squares overflow, or a kernel is not deterministic"]
    else:
        micro, found = located
        lines = [f"in micro-batch {micro}: {found.message}"]
    if trainer.run:
        path = trainer.run.post_mortem(step)
        trainer.save_checkpoint(path)
        lines.append(f"to look at it: python train.py --post-mortem {path}")
    return "\n".join(lines)


def post_mortem(trainer):
    """Replay the step after the one that a state was saved at, and stop in the operation that went bad.

    Opens pdb at its first line, with its inputs as locals. Returns whether something bad was found.
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
