"""Generation: one token after another."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kernels.arrays import on_host
from minigrad.recording import no_grad
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.sampling.strategies import choose


def generate(
    model: TransformerLM,
    prompt: npt.ArrayLike,
    n_tokens: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[int]:
    """Yield n_tokens token ids that follow `prompt`.

    prompt: integer array (n,), n >= 1. The model sees the last block_size tokens. The other arguments are those of
    `strategies.choose`. Raises FloatingPointError for logits that are not finite.
    """
    ids = np.asarray(prompt, dtype=np.int64).reshape(-1)
    if not len(ids):
        raise ValueError("the prompt is empty; give at least one token")
    model.eval()
    for _ in range(n_tokens):
        ids = ids[-model.config.block_size :]
        with no_grad():
            logits = model(ids[None], last_only=True)
        logits = on_host(logits.data)[0, -1]
        if not np.isfinite(logits).all():
            raise FloatingPointError(
                "the model's logits are not finite: its weights are far too large; use an earlier one"
            )
        token = choose(logits, rng, temperature, top_k, top_p)
        ids = np.append(ids, token)
        yield token
