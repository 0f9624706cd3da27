"""Every parameter of the whole model, by name, against finite differences: both kernel sets, every variant."""

import numpy as np
import pytest
from small_models import batch_of, make_model

import kernels
from minigrad import GradcheckError, gradcheck, random
from minigrad.ops import nn as ops

VARIANTS = {
    "tied": {},
    "untied": {"tie_weights": False},
    "no bias": {"bias": False},
    "sinusoidal": {"positions": "sinusoidal"},
    "exact gelu": {"gelu": "none"},
    "all others": {"tie_weights": False, "bias": False, "positions": "sinusoidal", "gelu": "none"},
}


def check(**changes):
    settings = {"n_embd": 6, "n_head": 2, "block_size": 5, "vocab_size": 7, "dropout": 0.2}
    model = make_model(dtype=np.float64, **settings | changes)
    # away from the small first weights, where softmax and layer norms are so smooth that little could be wrong
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    ids, targets = batch_of(model.config, B=2)
    targets[0, 1] = -100

    def loss(*_):
        random.seek(3, step=1)  # the same masks every time
        return model(ids, targets)

    return model, gradcheck(loss, dict(model.named_parameters()), rtol=1e-6, max_coordinates=24, n_directions=4)


@pytest.mark.parametrize("kernel_set", kernels.SETS)
@pytest.mark.parametrize(
    "variant", [v if v in ("tied", "all others") else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_every_parameter(variant, kernel_set):
    with kernels.use(kernel_set):
        model, report = check(**VARIANTS[variant])
    assert report.errors.keys() == dict(model.named_parameters()).keys()


def test_a_wrong_backward_function_is_found_and_the_parameter_named(monkeypatch):
    """The check can fail: a GELU whose gradient is off by a thousandth."""
    right = ops.gelu_backward
    monkeypatch.setattr(ops, "gelu_backward", lambda *args, **kwargs: 1.001 * right(*args, **kwargs))
    with pytest.raises(GradcheckError, match=r"^(\w+_embedding|blocks\.\d\.[a-z0-9.]+)\.(weight|bias), "):
        check()
