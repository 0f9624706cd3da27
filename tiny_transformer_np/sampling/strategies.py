"""The choice of the next token from logits (V,). Pure functions: they do not modify their arguments."""

import numpy as np

from kernels.arrays import Array


def probabilities(logits: Array) -> Array:
    """softmax of logits (V,), in float64 -> (V,)."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def keep_top_k(logits: Array, k: int) -> Array:
    """The k largest logits, all others -inf. Logits equal to the k-th largest are all kept; k above V keeps all."""
    if k < 1:
        raise ValueError(f"top_k is {k}; expected 1 or more")
    border = np.partition(logits, -min(k, len(logits)))[-min(k, len(logits))]
    return np.where(logits >= border, logits, -np.inf)


def keep_top_p(logits: Array, p: float) -> Array:
    """The smallest set of likeliest tokens whose probability reaches p, all others -inf. Holtzman et al. 2020.

    The token with which the sum crosses p belongs to the set, so at least one is always kept.
    """
    if not 0.0 < p <= 1.0:
        raise ValueError(f"top_p is {p}; expected 0 < top_p <= 1")
    order = np.argsort(-logits, kind="stable")
    probs = probabilities(logits)[order]
    before = np.cumsum(probs) - probs  # the sum over more likely tokens
    kept = np.full_like(logits, -np.inf)
    kept[order[before < p]] = logits[order[before < p]]
    return kept


def choose(
    logits: Array,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """One token id: temperature, then top-k, then top-p on what is left. Temperature 0 is greedy.

    logits (V,), of which some may be -inf: never to be chosen. rng: numpy.random.Generator. Raises ValueError
    for NaN or inf among them, or no finite one.
    """
    if not np.isfinite(logits.max()):  # NaN if one of them is
        raise ValueError(f"the largest logit is {logits.max()}; expected a finite number")
    if not temperature >= 0.0:  # also when it is NaN
        raise ValueError(f"temperature is {temperature}; expected 0 or more")
    if temperature == 0.0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # next to 0 all but the likeliest become -inf, as they should
        logits = (logits.astype(np.float64) - logits.max()) / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    cumulative = np.cumsum(probabilities(logits))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
