"""Sound models raise no alarm: preflight and `verify` with 200 seeds, each with its own weights, batch and dropout.

The same for gradcheck and every operation stands in tests/seeded_bugs.
"""

import numpy as np
import pytest
from preflight_helpers import failed, trainer_of

import kernels
from minigrad import debug

in_twenties = pytest.mark.parametrize(
    "seeds", [range(i, i + 20) for i in range(0, 200, 20)], ids=lambda s: f"{s[0]}-{s[-1]}"
)


@pytest.fixture(autouse=True)
def fast_kernels():
    with kernels.use("fast"):
        yield


@pytest.mark.slow
@in_twenties
def test_preflight(seeds):
    for seed in seeds:
        assert failed(trainer_of(seed=seed, model={"dropout": 0.1}), whole=True) == "", seed


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@in_twenties
def test_verify(seeds, dtype):
    """Eight random nodes of a real step: the numerical gradient on the reference kernels, and the fast ones."""
    for seed in seeds:
        trainer = trainer_of(seed=seed, model={"dropout": 0.1}, dtype=dtype)
        with debug.check_mode():
            loss = trainer.loss_of(step=1, micro=0)
        assert debug.verify(loss, n_nodes=8, seed=seed) == 8
