"""The check of the causal mask: no position may depend on a later token.

Letters: R rows, copies of one window; T time; C channels.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from kernels.arrays import Array, on_host
from minigrad import graph, random
from minigrad.nn import Linear
from minigrad.recording import no_grad
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight.common import CheckFailed, cut, shortened, twin
from tiny_transformer_np.training.trainer import Trainer

SHARP = 3e4  # factor of queries and keys: scores then exceed a mask that is finite
READS = "The model reads the tokens that it is to predict: its loss would go to nearly 0, and its text be garbage."


def no_lookahead(trainer: Trainer) -> str:
    """Raise CheckFailed if an earlier position depends on a later token. Returns a few words.

    There is no tolerance: the earlier logits must have the same bits whatever the later token, and the gradient of an
    earlier position's loss for a later token's embedding must be exactly 0.
    """
    model = twin(trainer.model)
    window, _ = cut(shortened(trainer, copies=4), 1, 256)
    T = window.shape[1]
    if T == 1 or model.config.vocab_size == 1:
        return "there is no later token"
    places = np.unique([1, T // 2, T - 1 - T // 4, T - 1])  # (R,): the token of row r that is changed
    ids = np.repeat(window, len(places), axis=0)  # (R, T)
    forward = _change(model, ids, places)
    backward = _gradient(model, ids, places, trainer.config.seed)
    if forward or backward:
        raise CheckFailed("a later token is seen", _explanation(model, T, forward, backward))
    if _change(_sharpened(model), ids, places):
        raise CheckFailed(
            "a finite mask",
            "later tokens are seen once scores are large: the causal mask is a finite number such as -1e4, which a "
            "large score overpowers. Set the scores of later tokens to -inf.",
        )
    return f"exact at {len(places)} of {T} positions"


@no_grad()
def _change(model: TransformerLM, ids: Array, places: Array) -> float:
    """The largest change of a logit before places[r] when row r has another token there; ids (R, T)."""
    model.eval()
    other = ids.copy()
    rows = np.arange(len(places))
    other[rows, places] = (other[rows, places] + 1) % model.config.vocab_size
    before, after = on_host(model(ids).data), on_host(model(other).data)  # (R, T, V)
    if np.array_equal(before, after):
        raise CheckFailed("tokens make no difference", "the logits do not change with the tokens at all; expected "
                          "them to. Usually a forward that does not use its input, or weights of zeros.")  # fmt: skip
    return max(float(np.abs(after[r, :s] - before[r, :s]).max()) for r, s in enumerate(places))


def _gradient(model: TransformerLM, ids: Array, places: Array, seed: int) -> float:
    """The largest gradient that the loss before places[r] has for an embedding from there on; ids (R, T)."""
    model.train()
    random.seek(seed, 1)
    early = np.arange(ids.shape[1]) < places[:, None]  # (R, T)
    dembedded = _embedding_gradient(model, ids, np.where(early, np.roll(ids, -1, axis=1), IGNORE_INDEX))
    return float(np.abs(dembedded[~early]).max())


def _embedding_gradient(model: TransformerLM, ids: Array, targets: Array) -> Array:
    """The gradient of the embedded tokens, (R, T, C), on the host."""
    loss = model(ids, targets, ignore_index=IGNORE_INDEX)
    for node, dout, _ in graph.steps(loss.node, np.ones_like(loss.data)) if loss.node else ():
        if node.op == "embedding" and node.saved["ids"].shape == ids.shape:
            return on_host(dout)
    raise CheckFailed("no embedded tokens", "backward does not reach an embedding of the tokens, so there is nothing "
                      "to follow. Usually something cut off the graph (detach, .data, no_grad).")  # fmt: skip


def _queries_and_keys(model: TransformerLM) -> Iterator[Array]:
    """The weights and biases of queries and keys: views of each block's packed weight and bias."""
    for block in model.blocks:
        for parameter in (block.attn.qkv.weight, block.attn.qkv.bias):
            if parameter is not None:
                yield parameter.data[: 2 * model.config.n_embd]


def _sharpened(model: TransformerLM) -> TransformerLM:
    """A copy of the model whose attention is nearly one-hot, at the token with the highest score."""
    sharp = twin(model)
    for array in _queries_and_keys(sharp):
        array *= SHARP
    return sharp


def _masked_by(model: TransformerLM, T: int) -> Array:
    """How much the mask lowers the scores of the tokens after one position: (n,), inf where it is right.

    In a copy of the model all scores are 0, all tokens equal, and only the last block's attention is active. Then the
    gradients of one position's loss for the embeddings are proportional to their attention weights, exp(-mask).
    Empty if the attention does not leak.
    """
    probe = twin(model).eval()
    for array in _queries_and_keys(probe):
        array[...] = 0.0
    if probe.config.positions == "learned":
        probe.position_embedding.weight.data[...] = 0.0
    else:
        probe.sinusoids = np.zeros_like(probe.sinusoids)
    here, blocks = (T - 1) // 2, list(probe.blocks)
    targets = np.full((1, T), IGNORE_INDEX)
    targets[0, here] = 1

    def seen(silenced: Iterable[Linear]) -> Array:
        for linear in silenced:
            for parameter in (linear.weight, linear.bias):
                if parameter is not None:
                    parameter.data[...] = 0.0
        return np.abs(_embedding_gradient(probe, np.zeros((1, T), np.int64), targets)[0]).sum(axis=-1)  # (T,)

    size = seen([block.mlp.proj for block in blocks] + [block.attn.proj for block in blocks[:-1]])
    elsewhere = seen([blocks[-1].attn.proj])[here + 1 :].any()
    if elsewhere or here == 0 or not size[0] > 0.0:
        return np.empty(0)
    return -np.log(size[here + 1 :] / size[0])


def _explanation(model: TransformerLM, T: int, forward: float, backward: float) -> str:
    if not backward:
        return (
            f"changing a later token changes earlier logits by up to {forward:.2g}; expected not a bit. Backward shows "
            "nothing of it, so the causal mask is missing in forward alone: loss and gradient are of two models."
        )
    if not forward:
        return (
            f"the loss of earlier positions has a gradient of up to {backward:.2g} for later tokens; expected 0. The "
            "logits are right, so the causal mask is missing in backward alone."
        )
    seen = f"changing a later token changes earlier logits by up to {forward:.2g}; expected not a bit. "
    masked = _masked_by(model, T)
    open_to = int(np.isfinite(masked).sum())
    if not open_to:
        return f"{seen}Usually a mean, a norm or a shift that runs over time, or the causal mask. {READS}"
    if open_to < len(masked):
        return f"{seen}The causal mask begins {open_to} later than it should (np.tri's k, or < for <=). {READS}"
    by = float(masked.mean())
    scaled = 1.0 / math.sqrt(model.config.n_embd // model.config.n_head)
    if any(abs(by - ones) < 0.02 * ones for ones in (1.0, scaled)):
        return (
            f"{seen}The scores of later tokens are lowered by {by:.2f} only: a causal mask of 1 and 0 is added to the "
            f"scores, where 0 and -inf belong. {READS}"
        )
    if abs(by) < 0.02:
        return f"{seen}The scores of later tokens are not lowered at all: the causal mask is missing. {READS}"
    return f"{seen}The scores of later tokens are lowered by {by:.3g} only, where -inf belongs. {READS}"
