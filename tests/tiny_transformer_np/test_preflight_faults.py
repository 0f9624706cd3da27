"""Every check of preflight, but for the one of the mask, names a fault that was seeded for it, and only that one."""

import numpy as np
import pytest
from preflight_helpers import TEXT, failed, says, trainer_of

import kernels
import minigrad
from minigrad import functional as F
from minigrad import nn
from minigrad.ops import loss as ops_loss
from minigrad.ops import nn as ops_nn
from tiny_transformer_np.model import MLP, TransformerLM
from tiny_transformer_np.training import TextDataset, preflight
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.preflight import data


@pytest.fixture(autouse=True)
def plain_kernels():
    with kernels.use("reference"):
        yield


# --------------------------------------------------------------------------------- settings and data at fault


def test_a_learning_rate_of_0_at_step_1():
    trainer = trainer_of()
    trainer.optimizer.learning_rate = 0.0
    says(failed(trainer, "learning rate"), "rate of step 1 is 0; expected more than 0", "warm-up")


@pytest.mark.parametrize(
    ("shift", "words"),
    [(0, "shifted by 0 instead. The model is asked for the token it has just read"), (2, "One position too far"),
     (-1, "inputs and targets are exchanged"), (5, "shuffled or cut differently")],
)  # fmt: skip
def test_targets_at_the_wrong_place(shift, words):
    trainer = trainer_of()

    def batch(number, batch_size, seed):
        places = (number * 40 + np.arange(batch_size)[:, None] * 9) + 5 + np.arange(8)
        return trainer.train_dataset.tokens[places], trainer.train_dataset.tokens[places + shift]

    trainer.train_dataset.batch = batch
    says(failed(trainer, "targets"), "of the targets equal the input one place further on; expected all", words)


def test_targets_that_are_rolled_around():
    """Right everywhere but in the last place of each window."""
    trainer = trainer_of()
    original = trainer.train_dataset.batch

    def batch(*args):
        ids, _ = original(*args)
        return ids, np.roll(ids, -1, axis=1)

    trainer.train_dataset.batch = batch
    says(failed(trainer, "targets"), "nowhere in the training text", "np.roll")


def test_targets_that_do_not_count_are_not_looked_at():
    trainer = trainer_of()
    original = trainer.train_dataset.batch

    def batch(*args):
        ids, targets = original(*args)
        targets[:, -3:] = IGNORE_INDEX
        return ids, targets

    trainer.train_dataset.batch = batch
    failed(trainer)


def with_texts(cut_train, cut_val):
    """A trainer on text[:cut_train] that validates on text[cut_val:]; cuts are shares of the text."""
    trainer = trainer_of()
    tokens = trainer.train_dataset.tokenizer.encode(TEXT)
    train, val = tokens[: int(cut_train * len(tokens))].copy(), tokens[int(cut_val * len(tokens)) :].copy()
    for name, part in (("train_dataset", train), ("val_dataset", val)):
        setattr(trainer, name, TextDataset(part, trainer.train_dataset.tokenizer, 8))
    return trainer


def test_ranges_that_overlap_at_the_border():
    n = int(0.9 * len(TEXT)) - int(0.8 * len(TEXT))
    says(failed(with_texts(0.9, 0.8), "split"), f"ends with the {n} tokens that the other begins with; expected none")


def test_validation_text_inside_the_training_text():
    says(failed(with_texts(1.0, 0.0), "split"), "tokens that the other begins with")
    trainer = with_texts(1.0, 0.5)
    trainer.val_dataset.tokens = trainer.train_dataset.tokens[300:600].copy()
    says(failed(trainer, "split"), "the whole validation text is contained in the training text", "learned by heart")
    quoted, own = trainer.train_dataset.tokens[300:900], trainer.train_dataset.tokens[:400][::-1]
    trainer.val_dataset.tokens = np.concatenate([quoted, own])
    says(failed(trainer, "split"), "57% of the validation text is contained")


def test_a_large_text_is_sampled(monkeypatch):
    """One passage in 16 is looked up, and pieces are short; what is wrong is found all the same."""
    monkeypatch.setattr(data, "SAMPLED", 1 << 8)
    monkeypatch.setattr(data, "PIECE", 1000)
    tokens = np.random.default_rng(0).integers(0, 50, 60_000).astype(np.uint8)
    cut, copy = 55_000, tokens[20_000:25_000].copy()
    assert data._disjoint(tokens[:cut], tokens[cut:]) == "0.0% of validation's 64-token passages recur, 1 in 16 sampled"
    for train, val, words in (
        (tokens[: cut + 100], tokens[cut:].copy(), "ends with the 100 tokens that the other begins with"),
        (tokens[cut - 100 :], tokens[:cut].copy(), "ends with the 100 tokens that the other begins with"),
        (tokens, copy, "the whole validation text is contained"),
        (tokens, np.concatenate([copy[:3000], copy[:2000][::-1]]), "% of the validation text is contained"),
    ):
        with pytest.raises(data.CheckFailed, match=words):
            data._disjoint(train, val)
    mixed = np.concatenate([copy[:2000], copy[:3000][::-1]])
    assert 0.3 < float(data._disjoint(tokens, mixed).split("%")[0]) / 100 < 0.5  # 40 per cent


def test_ranges_of_one_array():
    trainer = trainer_of()
    trainer.val_dataset.tokens = trainer.train_dataset.tokens[-9:]
    says(failed(trainer, "split"), "the same stretch of one text in part")


# ------------------------------------------------------------------------------------------ a model at fault


def test_first_weights_that_are_too_large():
    trainer = trainer_of()
    for p in trainer.model.parameters():
        p.data *= 50.0 if p.ndim > 1 else 1.0  # N(0, 1), the default of an embedding
    found = preflight.preflight(trainer, say=lambda line: None)
    assert found[0][0] == "initial loss"
    says(found[0][1], "guessing gives ln V = 3.", "too large", "0.02")


def test_a_loss_that_is_too_good(monkeypatch):
    original = TransformerLM.forward

    def half_the_loss(self, ids, targets=None, **how):
        out = original(self, ids, targets, **how)
        return out if targets is None else out * 0.5

    monkeypatch.setattr(TransformerLM, "forward", half_the_loss)
    says(failed(trainer_of(), "initial loss"), "far below that of guessing", "leak")


def test_a_weight_that_is_not_a_number():
    """What else would fail for the same reason is left out."""
    trainer = trainer_of()
    trainer.model.blocks[0].mlp.fc.weight.data[1, 2] = np.nan
    says(failed(trainer, "initial loss"), "is nan", "blocks.0.mlp.fc.weight holds such numbers")


def test_a_gradient_that_is_not_finite():
    trainer = trainer_of()
    trainer.model.ln_final.weight.register_hook(lambda grad: np.full_like(grad, np.inf))
    says(failed(trainer, "gradients"), "1 of 28 parameters get a gradient that is not finite", "ln_final.weight")


def test_a_parameter_cut_off_the_graph(monkeypatch):
    def forward(self, x):
        return F.layernorm(x, self.weight.detach(), self.bias, self.eps)

    monkeypatch.setattr(nn.LayerNorm, "forward", forward)
    explanation = failed(trainer_of(), "gradients", "movement", "gradcheck")
    says(explanation, "5 of 28 parameters get no gradient", "blocks.0.ln1.weight",
         "and 2 more", "detach", "do not move")  # fmt: skip


def test_a_parameter_unknown_to_the_optimizer():
    trainer = trainer_of()
    group = trainer.optimizer.param_groups[1]
    at = group["param_names"].index("blocks.1.ln2.bias")
    del group["params"][at], group["param_names"][at]
    says(failed(trainer, "movement"), "1 of 28 parameters are unknown to the optimizer", "blocks.1.ln2.bias")


def test_a_learning_rate_below_rounding():
    trainer = trainer_of(learning_rate=1e-12, min_lr=0.0)
    says(failed(trainer, "movement"), "do not move in a step of AdamW at learning rate", "rounding", "ln1.weight")


def test_a_model_blind_to_its_inputs():
    class Blind(nn.Embedding):
        def forward(self, ids):
            return super().forward(np.zeros_like(ids))

    trainer = trainer_of()
    trainer.model.token_embedding.__class__ = Blind
    trainer.model.position_embedding.__class__ = Blind
    says(failed(trainer, "no lookahead", "overfitting"), "do not change with the tokens at all",
         "cannot be learned by heart", "guessing by frequency alone")  # fmt: skip


def test_a_gradient_of_the_wrong_sign(monkeypatch):
    original = ops_loss.softmax_cross_entropy_backward
    monkeypatch.setattr(ops_loss, "softmax_cross_entropy_backward", lambda *args, **kwargs: -original(*args, **kwargs))
    says(failed(trainer_of(), "overfitting", "gradcheck"), "cannot be learned by heart", "wrong sign")


# ---------------------------------------------------------------------------- backward functions and kernels


def test_a_wrong_backward_function(monkeypatch):
    """A derivative wrong by one per cent; the parameter nearest to the output that it spoils is named."""
    original = ops_nn.gelu_backward
    monkeypatch.setattr(ops_nn, "gelu_backward", lambda *args, **saved: original(*args, **saved) * 1.01)
    explanation = failed(trainer_of(), "gradcheck")
    says(explanation, "disagrees with the numerical gradient", "blocks.1.mlp.fc.bias", "analytic",
         "operations between it and the output",
         "the gradient is 1.01 times the true one")  # fmt: skip


def test_a_wrong_backward_function_of_dropout(monkeypatch):
    original = ops_nn.seeded_dropout_backward
    monkeypatch.setattr(ops_nn, "seeded_dropout_backward", lambda dout, p, seed, step, stream:
                        original(dout, p, seed, step, stream + 1))  # fmt: skip
    says(failed(trainer_of(model={"dropout": 0.2}), "gradcheck"), "disagrees with the numerical gradient")


def test_a_wrong_fast_kernel(monkeypatch):
    fast = kernels.backend("cpu")
    original = fast.gelu_backward
    monkeypatch.setattr(fast, "gelu_backward", lambda *args, **saved: original(*args, **saved) * 1.5)
    with kernels.use("fast"):
        says(failed(trainer_of(), "gradcheck"), "that of the reference kernels", "mlp", "--kernels reference")


def test_gradients_that_replace_each_other_in_the_optimizers_buffer(monkeypatch):
    """Every backward function is right, and so is every gradient without an optimizer: only sums are not."""

    def accumulate(self, grad, totals=None):
        if self.grad_buffer is None:
            self.grad = grad if self.grad is None else self.grad + grad
        else:
            self.grad = self.grad_buffer
            self.grad[...] = grad

    monkeypatch.setattr(minigrad.Tensor, "accumulate", accumulate)
    says(failed(trainer_of(), "gradcheck"), "token_embedding.weight differs from that of the reference",
         "right without the GradientArena", "`+=`")  # fmt: skip


def test_a_module_that_forward_forgets(monkeypatch):
    monkeypatch.setattr(MLP, "forward", lambda self, x: x)
    says(failed(trainer_of(), "gradients", "movement"), "8 of 28 parameters get no gradient", "blocks.0.mlp.fc.weight")
