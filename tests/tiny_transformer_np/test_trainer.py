"""The training loop: the results of a step, averages over targets, and state that must not change.

Tiny models, in float64 where results must be exact.
"""

import math

import numpy as np
import pytest
from small_models import TEXT, make_trainer, same_bits, weights_of

import kernels
from minigrad import random
from tiny_transformer_np.corpus.tokens import Tokens
from tiny_transformer_np.training import TextDataset
from tiny_transformer_np.training.dataset import IGNORE_INDEX
from tiny_transformer_np.training.evaluation import Evaluation

TRAIN_KEYS = ["kind", "step", "loss", "perplexity", "lr", "grad_norm", "tokens_per_second", "elapsed_seconds"]
EVAL_KEYS = ["kind", "step", "val_loss", "val_perplexity", "val_bits_per_byte"]


def log_softmax(logits):
    """The log-softmax of float64 logits (..., V), computed independently."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def ignore_unevenly(trainer):
    """Ignore a different number of targets in every batch, as padding does. Returns the trainer."""
    dataset, original = trainer.train_dataset, trainer.train_dataset.batch

    def batch(number, batch_size, seed):
        samples = [original(i, 1, seed) for i in range(number * batch_size, (number + 1) * batch_size)]
        for i, (_, targets) in enumerate(samples, number * batch_size):
            targets[0, : i * 3 % 8] = IGNORE_INDEX
        return tuple(np.concatenate(part) for part in zip(*samples, strict=True))

    dataset.batch = batch
    return trainer


def gradients_of(trainer):
    return {name: parameter.grad.copy() for name, parameter in trainer.model.named_parameters()}


# ------------------------------------------------------------------------------------------------ a step


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_training_lowers_the_loss(kernel_set):
    with kernels.use(kernel_set):
        trainer = make_trainer(max_steps=60, eval_interval=30)
        assert trainer.train() is True
    losses = [row["loss"] for row in trainer.metrics.rows if row["kind"] == "train"]
    assert losses[0] == pytest.approx(math.log(trainer.model.config.vocab_size), abs=0.1)
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    assert all(array.dtype == np.float32 for array in trainer.model.state_dict().values())


@pytest.mark.parametrize("k", [2, 4])
def test_micro_batches_give_the_big_batchs_gradient(k):
    """Every target counts the same, though each micro-batch has another number of them."""
    settings = {"dtype": np.float64, "grad_clip": 0.5}
    whole = ignore_unevenly(make_trainer(batch_size=8, **settings))
    parts = ignore_unevenly(make_trainer(batch_size=8 // k, grad_accumulation_steps=k, **settings))
    counts = [np.count_nonzero(t != IGNORE_INDEX) for _, t in (parts._batch(1, m) for m in range(k))]
    assert len(set(counts)) > 1
    for _ in range(3):
        (loss, norm), (parts_loss, parts_norm) = whole.train_step(), parts.train_step()
        assert parts_loss == pytest.approx(loss, rel=1e-12)
        assert parts_norm == pytest.approx(norm, rel=1e-10)
        for name, grad in gradients_of(parts).items():
            np.testing.assert_allclose(grad, gradients_of(whole)[name], rtol=1e-10, atol=1e-12, err_msg=name)
    for name, array in weights_of(parts).items():
        np.testing.assert_allclose(array, weights_of(whole)[name], rtol=0, atol=1e-9, err_msg=name)


def test_the_loss_is_the_average_over_all_targets_of_the_step():
    trainer = ignore_unevenly(make_trainer(dtype=np.float64, batch_size=2, grad_accumulation_steps=3))
    losses = []
    for micro in range(3):
        ids, targets = trainer._batch(1, micro)
        logp = log_softmax(trainer.model(ids).data)
        losses += [-logp[b, t, y] for (b, t), y in np.ndenumerate(targets) if y != IGNORE_INDEX]
    assert np.mean(losses[:10]) != pytest.approx(np.mean(losses[-10:]), rel=1e-6)  # it matters what is averaged
    assert trainer.train_step()[0] == pytest.approx(np.mean(losses), rel=1e-12)


def test_the_gradient_norm_is_of_all_gradients_before_clipping():
    trainer = make_trainer(dtype=np.float64, grad_clip=1e-3)
    _, norm = trainer.train_step()
    assert norm == pytest.approx(math.sqrt(sum((g**2).sum() for g in gradients_of(trainer).values())), rel=1e-12)
    assert norm > 1e-2


def test_clipping_limits_the_gradient_and_zero_means_none():
    """AdamW's first moment after one step is (1 - beta1) times the gradient that it was given."""
    for clip, expected in ((1e-3, 1e-3), (0.0, None), (1e6, None)):
        trainer = make_trainer(dtype=np.float64, grad_clip=clip)
        _, norm = trainer.train_step()
        m = trainer.optimizer.state_dict()["m"].values()
        given = math.sqrt(sum((x**2).sum() for x in m)) / (1.0 - trainer.config.betas[0])
        assert given == pytest.approx(expected or norm, rel=1e-3 if expected else 1e-12)


def test_a_step_counts_and_moves_the_learning_rate():
    trainer = make_trainer(max_steps=6)
    rates = []
    for step in range(1, 7):
        rates.append(trainer.optimizer.learning_rate)
        trainer.train_step()
        assert trainer.step == step
    assert rates[:2] == [5e-3, 1e-2] and rates[-1] == pytest.approx(1e-3)


def test_each_step_takes_the_next_windows_and_micro_batches_do_not_overlap():
    trainer = make_trainer(batch_size=2, grad_accumulation_steps=2, max_steps=100)
    seen, original = [], trainer.train_dataset.batch
    trainer.train_dataset.batch = lambda number, size, seed: seen.append(number) or original(number, size, seed)
    for _ in range(3):
        trainer.train_step()
    assert seen == [0, 1, 2, 3, 4, 5]


def test_dropout_differs_between_micro_batches_and_steps():
    trainer = make_trainer(model={"dropout": 0.2}, grad_accumulation_steps=2, overfit_one_batch=True)
    drawn, forward = [], trainer.model.forward

    def spy(*args, **kwargs):
        drawn.append(random._tape.position)
        return forward(*args, **kwargs)

    trainer.model.forward = spy
    for _ in range(2):
        trainer.train_step()
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("what", ["a weight", "the loss", "a gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_numbers_never_reach_the_weights(what, value, monkeypatch):
    trainer = make_trainer()
    trainer.train_step()
    if what == "a weight":
        trainer.model.blocks[0].mlp.fc.weight.data[1, 2] = value
    elif what == "the loss":
        monkeypatch.setattr(trainer.model, "forward", lambda *a, f=trainer.model.forward, **k: f(*a, **k) * value)
    else:
        trainer.model.ln_final.weight.register_hook(lambda grad: np.full_like(grad, value))
    before, moments = weights_of(trainer), trainer.optimizer.state_dict()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"at step 2.* are still those of step 1"):
        trainer.train_step()
    assert same_bits(weights_of(trainer), before)
    after = trainer.optimizer.state_dict()
    assert after["step"] == moments["step"] and same_bits(after["m"], moments["m"])
    assert trainer.step == 1


def test_the_message_names_a_gradient():
    trainer = make_trainer()
    trainer.model.ln_final.weight.register_hook(lambda grad: np.full_like(grad, np.nan))
    with pytest.raises(FloatingPointError, match=r"the gradient of ln_final\.weight is not finite"):
        trainer.train_step()


# ------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("kernel_set", kernels.SETS)
def test_evaluation_is_the_plain_average_over_all_targets(kernel_set, monkeypatch):
    """Token by token, each with the context that its window gives it; the last, shorter batch weighs no more."""
    monkeypatch.setattr("tiny_transformer_np.training.trainer.EVAL_TOKENS", 32)  # four windows of eight a batch
    trainer = make_trainer(dtype=np.float64, text=TEXT[:-29])
    trainer.model.blocks[0].mlp.proj.weight.data *= 50.0  # so that tokens differ in their loss
    tokens = trainer.val_dataset.tokens
    assert (len(tokens) - 1) % 8 and (len(tokens) - 1) // 8 % 4  # a padded window, a short batch
    losses = []
    for start in range(0, len(tokens) - 1, 8):
        inputs, targets = tokens[start:-1][:8], tokens[start + 1 :][:8]
        logp = log_softmax(trainer.model(inputs[None]).data[0])
        losses += [-logp[t, y] for t, y in enumerate(targets)]
    assert len(losses) == len(tokens) - 1
    with kernels.use(kernel_set):
        assert trainer.evaluate() == pytest.approx(np.mean(losses), rel=1e-12)


def test_a_limited_evaluation_is_over_its_windows_whatever_the_batch(monkeypatch):
    trainer = make_trainer(eval_tokens=40)
    whole = make_trainer(eval_tokens=0).evaluation()
    limited = trainer.evaluation()
    assert limited.n_targets == trainer.val_dataset.n_targets(40) == 40 < whole.n_targets
    assert whole.n_targets == len(trainer.val_dataset.tokens) - 1
    assert limited.loss != whole.loss
    monkeypatch.setattr("tiny_transformer_np.training.trainer.EVAL_TOKENS", 16)
    assert trainer.evaluate() == pytest.approx(limited.loss, rel=1e-6)
    windows = [trainer.val_dataset[i * len(trainer.val_dataset) // 5] for i in range(5)]
    losses = [float(trainer.model(x[None], y[None], reduction="sum").data) for x, y in windows]
    assert limited.loss == pytest.approx(sum(losses) / 40, rel=1e-5)


def test_bits_per_byte_count_the_bytes_of_the_text():
    """ "ä" is two bytes and "€" three; a text of as many characters of one byte has more bits in each."""
    text = "aä€b" * 100
    trainer = make_trainer(text=text)
    found = trainer.evaluation()
    n_bytes = len(text[300:][1:].encode())  # the first character of the validation part is no target
    assert (found.n_targets, found.n_bytes) == (99, n_bytes)
    assert found.bits_per_byte == pytest.approx(found.loss * 99 / np.log(2) / n_bytes, rel=1e-12)
    unknown = Evaluation(2.0, 10, 0)
    assert unknown.bits_per_byte is None


def test_documents_by_themselves_are_trained_on_and_evaluated():
    """Windows are padded; each target counts the same, and no more than there are."""
    trainer = make_trainer(dtype=np.float64, batch_size=3, grad_accumulation_steps=2, num_workers=2)
    tokens, tokenizer = trainer.train_dataset.tokens, trainer.train_dataset.tokenizer
    ends = np.cumsum(np.random.default_rng(0).integers(1, 14, 40))
    data = TextDataset(Tokens(tokens, ends), tokenizer, 8, cross_documents=False)
    trainer.train_dataset = trainer.val_dataset = data
    batches = [data.batch(number, 3, trainer.config.seed) for number in (0, 1)]
    losses = []
    for ids, targets in batches:
        logp = log_softmax(trainer.model(ids).data)
        losses += [-logp[b, t, y] for (b, t), y in np.ndenumerate(targets) if y != IGNORE_INDEX]
    assert len(losses) < 6 * 8
    assert trainer.train_step()[0] == pytest.approx(np.mean(losses), rel=1e-12)
    trainer.loader.close()
    assert trainer.evaluation().n_targets == sum(max(n - 1, 0) for n in np.diff([0, *ends, len(tokens)]))


def test_evaluation_records_nothing_and_training_goes_on_as_if_it_had_not_been():
    looked, plain = (make_trainer(model={"dropout": 0.2}) for _ in range(2))
    made, forward = [], looked.model.forward
    looked.model.forward = lambda *args, **kwargs: made.append(forward(*args, **kwargs)) or made[-1]
    value = looked.evaluate()
    assert made and not any(logits.requires_grad for logits in made)
    assert value == looked.evaluate()  # no dropout, no randomness
    looked.model.forward = forward
    for _ in range(3):
        assert looked.train_step() == plain.train_step()
        looked.evaluate()
        looked.sample()
    assert same_bits(weights_of(looked), weights_of(plain))
    assert looked.model(*looked._batch(1, 0)).requires_grad


def test_a_validation_loss_that_is_not_finite_ends_the_run_clearly(monkeypatch):
    trainer = make_trainer(max_steps=3)
    monkeypatch.setattr(trainer, "evaluation", lambda: Evaluation(math.nan, 10, 10))
    with pytest.raises(FloatingPointError, match="validation loss nan at step 3"):
        trainer.train()


def test_one_batch_can_be_learned_by_heart():
    trainer = make_trainer(
        model={"n_embd": 16}, overfit_one_batch=True, batch_size=2, max_steps=150, weight_decay=0.0,
        learning_rate=2e-2, log_interval=150, eval_interval=150,
    )  # fmt: skip
    trainer.train()
    assert trainer.metrics.rows[-2]["loss"] < 0.1


# ------------------------------------------------------------------------------------------- the loop


def test_an_epoch_is_one_pass_over_the_windows():
    """Also where batches do not divide it, or one holds several epochs; nothing has to be set up before."""
    trainer = make_trainer(max_steps=0, epochs=3, batch_size=5, text=TEXT[:160])
    assert len(trainer.train_dataset) == 14 and trainer.total_steps == 8
    mean = trainer.train_epoch()
    assert trainer.step == 3  # ceil(14 / 5)
    assert mean == pytest.approx(np.mean([row["loss"] for row in trainer.metrics.rows if row["kind"] == "train"]))
    trainer.train_epoch()
    assert trainer.step == 6  # ceil(28 / 5)
    trainer.train_epoch()
    assert trainer.step == 8
    assert math.isnan(trainer.train_epoch()) and trainer.step == 8  # nothing left to do

    large = make_trainer(max_steps=2, batch_size=50, text=TEXT[:160])
    large.train_epoch()
    assert large.step == 1


@pytest.mark.parametrize(("epochs", "batch_size", "expected"), [(1, 5, 2), (10, 5, 28), (1, 100, 1)])
def test_steps_follow_from_epochs(epochs, batch_size, expected):
    assert make_trainer(max_steps=0, epochs=epochs, batch_size=batch_size, text=TEXT[:160]).total_steps == expected


def test_rows_of_metrics():
    """Step 1, every interval and the last are logged, and the last is evaluated; the keys are promised."""
    trainer = make_trainer(max_steps=7, log_interval=3, eval_interval=2)
    trainer.train()
    rows = trainer.metrics.rows
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 3, 6, 7]
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [2, 4, 6, 7]
    for row in rows:
        assert list(row) == (TRAIN_KEYS if row["kind"] == "train" else EVAL_KEYS)
        assert all(type(value) is (str if key == "kind" else int if key == "step" else float)
                   for key, value in row.items())  # fmt: skip
        assert row.get("perplexity", 0.0) == pytest.approx(math.exp(row.get("loss", -math.inf)))
        assert row.get("val_bits_per_byte", 0.0) == pytest.approx(row.get("val_loss", 0.0) / math.log(2))  # ASCII
    assert trainer.best_val_loss == min(row["val_loss"] for row in rows if row["kind"] == "eval")
    assert rows[0]["lr"] == pytest.approx(1e-2 / 2)  # the rate with which step 1 was made
    elapsed = [row["elapsed_seconds"] for row in rows if row["kind"] == "train"]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0


def test_a_trainer_without_validation_does_not_evaluate():
    trainer = make_trainer()
    trainer.val_dataset = None
    trainer.train()
    assert {row["kind"] for row in trainer.metrics.rows} == {"train"}


def test_samples_repeat_and_are_of_the_length_asked_for():
    trainer = make_trainer(sample_tokens=20)
    assert len(trainer.sample()) == 21
    first = trainer.sample()
    assert first == trainer.sample()
    trainer.train_step()
    assert first != trainer.sample()
