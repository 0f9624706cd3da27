"""What a person holds never changes under them, and a step leaves nothing of its graph behind."""

import gc

import numpy as np
import pytest
from small_models import make_trainer

import kernels
from minigrad.graph import Node


def arrays_below(tensor):
    """{(node, name): array} of all saved arrays in the graph that made a tensor."""
    found, stack, seen = {}, [tensor.node], set()
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node not in seen:
            seen.add(node)
            found |= {(node.id, name): x for name, x in node.saved.items() if isinstance(x, np.ndarray)}
            stack.extend(node.parents)
    return found


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_what_is_held_keeps_its_bits_over_five_steps(kernel_set):
    """Logits, every array saved for their backward, and copies of gradients; only weights are meant to change."""
    with kernels.use(kernel_set):
        trainer = make_trainer(model={"dropout": 0.1})
        trainer.train_step()
        logits = trainer.model(trainer._batch(1, 0)[0])
        weights = [parameter.data for parameter in trainer.model.parameters()]
        held = {key: x for key, x in arrays_below(logits).items() if not any(np.shares_memory(x, w) for w in weights)}
        held["logits"] = logits.data
        held |= {name: parameter.grad.copy() for name, parameter in trainer.model.named_parameters()}
        assert len(held) > 30
        bits = {key: x.tobytes() for key, x in held.items()}
        for _ in range(5):
            trainer.train_step()
    assert [key for key, x in held.items() if x.tobytes() != bits[key]] == []
    assert trainer.step == 6


def test_the_trainers_own_logits_are_the_only_thing_overwritten():
    """The same held by a spy inside the step: here the loss may, and does, reuse the logits' memory."""
    trainer = make_trainer()
    made, forward = [], trainer.model.forward
    trainer.model.forward = lambda *args, **kwargs: made.append(forward(*args, **kwargs)) or made[-1]
    before = trainer.model(trainer._batch(1, 0)[0]).data.copy()
    trainer.train_step()
    assert made[1].data.tobytes() != before.tobytes()


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_no_node_outlives_a_step(kernel_set):
    """With the cyclic collector off: reference counts alone must free the graph."""
    with kernels.use(kernel_set):
        trainer = make_trainer(model={"dropout": 0.1}, grad_accumulation_steps=2)
        trainer.train_step()  # compiled by now
        gc.collect()
        before = {id(x) for x in gc.get_objects() if type(x) is Node}  # of other tests, if any
        gc.disable()
        try:
            for look in (trainer.train_step, trainer.evaluate, trainer.sample):
                look()
                assert [x for x in gc.get_objects() if type(x) is Node and id(x) not in before] == [], look
        finally:
            gc.enable()


def test_the_check_sees_a_graph_that_is_held():
    trainer = make_trainer()
    before = sum(type(x) is Node for x in gc.get_objects())
    held = trainer.model(trainer._batch(1, 0)[0])
    assert sum(type(x) is Node for x in gc.get_objects()) > before + 10
    assert held.requires_grad


def test_after_backward_a_held_loss_holds_only_its_own_node():
    trainer = make_trainer()
    ids, targets = trainer._batch(1, 0)
    gc.collect()
    before = {id(x) for x in gc.get_objects() if type(x) is Node}
    gc.disable()
    try:
        loss = trainer.model(ids, targets)
        loss.backward()
        assert [x for x in gc.get_objects() if type(x) is Node and id(x) not in before] == [loss.node]
        assert loss.node.saved is None
    finally:
        gc.enable()
