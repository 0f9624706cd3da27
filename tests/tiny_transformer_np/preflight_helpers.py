"""What the tests of preflight share: trainers on text that hardly repeats itself, and what a check says."""

import numpy as np
from small_models import make_trainer

from tiny_transformer_np.training import preflight

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "pack", "my", "box", "with", "five",
         "dozen", "liquor", "jugs", "how", "vexing", "daft", "zebras", "back"]  # fmt: skip
TEXT = " ".join(np.random.default_rng(0).choice(WORDS, 400))  # words in random order


def trainer_of(**changes):
    return make_trainer(text=TEXT, **{"max_steps": 50, **changes})


def failed(trainer, *names, whole=False):
    """Exactly these checks fail -> all they say."""
    found = preflight.preflight(trainer, whole, say=lambda line: None)
    assert [name for name, _ in found] == list(names), found
    return "\n".join(explanation for _, explanation in found)


def says(explanation, *words):
    for word in words:
        assert word in explanation, (word, explanation)
