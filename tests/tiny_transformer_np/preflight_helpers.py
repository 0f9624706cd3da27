"""Helpers of the preflight tests: trainers on a text of random words, and the messages of failed checks."""

import numpy as np
from small_models import make_trainer

from tiny_transformer_np.training import preflight

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "pack", "my", "box", "with", "five",
         "dozen", "liquor", "jugs", "how", "vexing", "daft", "zebras", "back"]  # fmt: skip
TEXT = " ".join(np.random.default_rng(0).choice(WORDS, 400))  # words in random order


def trainer_of(**changes):
    return make_trainer(text=TEXT, **{"max_steps": 50, **changes})


def failed(trainer, *names, whole=False):
    """Assert that exactly these checks fail -> their messages."""
    found = preflight.preflight(trainer, whole, say=lambda line: None)
    assert [name for name, _ in found] == list(names), found
    return "\n".join(explanation for _, explanation in found)


def says(explanation, *words):
    for word in words:
        assert word in explanation, (word, explanation)
