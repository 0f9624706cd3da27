"""Preflight refuses every causal mask that is not exact, and says what is wrong with it."""

import numpy as np
import pytest
from preflight_helpers import failed, says, trainer_of

import kernels
from kernels.attention import reference
from tiny_transformer_np.model import Block
from tiny_transformer_np.training import preflight


@pytest.fixture(autouse=True)
def plain_kernels():
    with kernels.use("reference"):
        yield


def scores_with(mask):
    """kernels.attention.reference._scores with another causal mask: mask(scaled scores, allowed (T, S)) -> scores."""

    def scores(q, k, scale, causal):
        raw = (q @ k.swapaxes(-1, -2)) * scale
        return mask(raw, np.tri(q.shape[2], k.shape[2], dtype=bool)).astype(q.dtype)

    return scores


MASKS = {
    "1 and 0 added": (lambda s, allowed: s + allowed,
                      "lowered by 1.00 only: a causal mask of 1 and 0 is added to the scores, where 0 and -inf belong"),
    "1 and 0 added before scaling": (lambda s, allowed: s + 0.5 * allowed, "a causal mask of 1 and 0 is added"),
    "0 and -1 added": (lambda s, allowed: s - ~allowed, "a causal mask of 1 and 0 is added"),
    "forgotten": (lambda s, allowed: s, "not lowered at all: the causal mask is missing"),
    "multiplied": (lambda s, allowed: s * allowed, "the causal mask is missing"),
    "-5": (lambda s, allowed: np.where(allowed, s, s - 5.0), "lowered by 5 only, where -inf belongs"),
    "-1e4": (lambda s, allowed: np.where(allowed, s, s - 1e4), "a finite number such as -1e4"),
    "off by one": (lambda s, allowed: np.where(allowed | np.eye(len(allowed), k=1, dtype=bool), s, -np.inf),
                   "The causal mask begins 1 later than it should"),
}  # fmt: skip


@pytest.mark.parametrize("model", [{}, {"positions": "sinusoidal", "bias": False, "n_layer": 1, "dropout": 0.2}],
                         ids=["plain", "variant"])  # fmt: skip
@pytest.mark.parametrize("fault", MASKS)
def test_a_wrong_mask(fault, model, monkeypatch):
    mask, words = MASKS[fault]
    monkeypatch.setattr(reference, "_scores", scores_with(mask))
    trainer = trainer_of(model=model)
    found = dict(preflight.preflight(trainer, say=lambda line: None))
    # a model that cheats passes every other check, unless backward does not know of a factor
    assert list(found) == ["no lookahead", "gradcheck"][: 2 if fault == "multiplied" else 1]
    says(found["no lookahead"], words)
    assert ("1 and 0" in found["no lookahead"]) == ("1 and 0" in words)
    if fault != "-1e4":
        says(found["no lookahead"], "expected not a bit", "reads the tokens that it is to predict")


@pytest.mark.parametrize(("of", "words"), [("forward", "in forward alone"), ("backward", "in backward alone")])
def test_a_mask_missing_on_one_way(of, words, monkeypatch):
    name = f"attention_{of}"
    kernel = getattr(reference, name)

    def unmasked(*args, **kwargs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "_scores", scores_with(lambda s, allowed: s))
            return kernel(*args, **kwargs)

    monkeypatch.setattr(kernels.backend("reference"), name, unmasked)
    found = dict(preflight.preflight(trainer_of(), say=lambda line: None))
    says(found["no lookahead"], words)
    says(found["gradcheck"], "disagrees with the numerical gradient")


def test_a_leak_past_the_attention(monkeypatch):
    original = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, x: original(self, x) + x.mean(axis=1, keepdims=True))
    says(failed(trainer_of(), "no lookahead"), "expected not a bit", "runs over time")
