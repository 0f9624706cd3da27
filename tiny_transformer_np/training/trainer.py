"""The training loop."""

import contextlib
import dataclasses
import errno
import math
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from kernels.arrays import Array, on_host
from kernels.system import cli
from kernels.system.files import StrPath, replacing
from kernels.system.signals import asking_to_stop
from minigrad import optim, random, runtime
from minigrad._tensor import Tensor
from tiny_transformer_np import __version__
from tiny_transformer_np.config import ConfigError, TrainingConfig
from tiny_transformer_np.model import TransformerLM
from tiny_transformer_np.sampling.generator import generate
from tiny_transformer_np.training import checkpoint
from tiny_transformer_np.training import checkpoint_schema as schema
from tiny_transformer_np.training.checkpoint import Arrays, Meta
from tiny_transformer_np.training.data_identity import Identity, changed_data
from tiny_transformer_np.training.dataset import IGNORE_INDEX, Batch, TextDataset
from tiny_transformer_np.training.diagnosis import explain_nonfinite, verify_step
from tiny_transformer_np.training.evaluation import Evaluation, evaluate
from tiny_transformer_np.training.finite_state import logits_are_finite, not_finite
from tiny_transformer_np.training.loader import Loader
from tiny_transformer_np.training.metrics import MetricsLog, Row, perplexity
from tiny_transformer_np.training.plots import draw_metrics
from tiny_transformer_np.training.progress import Progress
from tiny_transformer_np.training.run_folder import Run
from tiny_transformer_np.training.scheduler import get_cosine_schedule_with_warmup

Scalar: TypeAlias = float | Array  # on a device an array (), which the host does not wait for

_SAMPLING = 1 << 12  # its place on the random tape, beyond any micro-batch
METRICS = "metrics.jsonl, whose rows are kept and written later"
EVAL_TOKENS = 8192  # tokens in a batch of an evaluation: enough to be efficient, little enough to need no memory


class Trainer:
    """Trains a TransformerLM on windows of text.

    model            TransformerLM
    train_dataset    TextDataset; also gives the tokenizer
    val_dataset      TextDataset, or None: then there is no evaluation
    config           TrainingConfig
    run              a training.run.Run to write metrics, plot, samples and checkpoints to, or None
    progress         shows how it goes; a training.progress.Progress
    """

    #: backward(loss, grad); whoever steps through it puts another in its place
    backward: Callable[[Tensor, Array], None] = staticmethod(Tensor.backward)

    def __init__(
        self,
        model: TransformerLM,
        train_dataset: TextDataset,
        val_dataset: TextDataset | None,
        config: TrainingConfig,
        run: Run | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.model = model.to(runtime.asarray(config.device))
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.config, self.run, self.progress = config, run, progress or Progress(quiet=True)
        self.samples_per_step = config.batch_size * config.grad_accumulation_steps
        self.total_steps = config.max_steps or max(1, config.epochs * len(train_dataset) // self.samples_per_step)
        self.on_host = config.device == "cpu"  # then results of a step are floats, else arrays on the device
        self.step = 0  # updates made so far
        self.best_val_loss = math.inf
        self.evaluated: Evaluation | None = None  # the last one
        self.identity: Identity | None = None  # what checkpoints say of the data; None: digests of the tokens
        groups = optim.decay_groups(model, config.weight_decay)
        self.arena = optim.GradientArena(groups)  # from here on each p.grad is a view that the next step overwrites
        self.optimizer = optim.AdamW(groups, config.learning_rate, config.betas, config.eps, arena=self.arena)
        runtime.return_pages()  # the weights have moved into the arena
        self.scheduler = get_cosine_schedule_with_warmup(
            self.optimizer, config.warmup_steps, self.total_steps, config.min_lr
        )
        self.loader = self._new_loader()
        self.metrics = MetricsLog()
        self.stopped_by: signal.Signals | None = None  # the signal that asked to stop
        self._saved: tuple[Path | None, int] = None, 0  # the last checkpoint that was written or read, and its step
        self._clock = time.perf_counter()
        self._nonfinite: Scalar = 0.0  # on a device an array: NaN once a step had numbers that are not finite
        self._reported = 0, self._clock  # step and time at which the last report ended

    # ---------------------------------------------------------------------------------- the loop

    def train(self) -> bool:
        """Train up to `total_steps`, or until a signal asks to stop. Returns whether the end was reached."""
        if self.run:
            self.run.path.mkdir(parents=True, exist_ok=True)
            with self.progress.attempt(METRICS):
                self.metrics = MetricsLog(self.run.metrics, last_step=self.step)
            if n := self.metrics.unreadable:
                said = f"{self.run.metrics}: {n} unreadable lines are skipped; they stay in the file"
                cli.complain(cli.program("train.py"), said)
            if self._is_eval_step():  # resumed: the kill may have come before these
                self._write_sample_and_plot()
        self._clock = time.perf_counter() - self.metrics.elapsed_seconds
        with asking_to_stop(self._stop):
            with self.progress.running(self.step, self.total_steps), contextlib.closing(self.loader):
                while self.step < self.total_steps and not self.stopped_by:
                    self.train_epoch()
            if self.run and self.stopped_by:
                self._save(self.run, self.run.latest)
        with self.progress.attempt(METRICS):
            self.metrics.flush()
        return self.step == self.total_steps

    def train_epoch(self) -> float:
        """Steps up to the next epoch's border, or the end of training. Returns their mean loss; nan without any."""
        epoch = self.step * self.samples_per_step // len(self.train_dataset)
        border = math.ceil((epoch + 1) * len(self.train_dataset) / self.samples_per_step)
        losses, self._reported = [], (self.step, time.perf_counter())
        while self.step < min(border, self.total_steps) and not self.stopped_by:
            if self.config.verify_every and (self.step + 1) % self.config.verify_every == 0:
                verify_step(self)
            learning_rate = self.optimizer.learning_rate
            loss, grad_norm = self.train_step()
            losses.append(loss)
            if self.on_host or self._is_due():
                self._report(*self._sync_results(loss, grad_norm), learning_rate)
        return float(sum(losses)) / len(losses) if losses else math.nan  # none when a signal has just come

    def train_step(self) -> tuple[Scalar, Scalar]:
        """One update of the weights from `grad_accumulation_steps` batches. Returns (loss per token, gradient norm).

        Every target counts the same, in whatever batch it stands: each batch's loss is a sum, divided by the
        number of targets in all of them. Raises FloatingPointError, before the weights are touched, if the loss
        or a gradient is not finite. On a device the two results stay there, and a step with numbers that are not
        finite changes nothing: the host does not wait for a step, it learns of it in `_report`.
        """
        step = self.step + 1
        self.loader.use(self.train_dataset)
        loaded = [self.loader.batch(self._number(step, m)) for m in range(self.config.grad_accumulation_steps)]
        n_targets = sum(each.n_targets for each in loaded)
        self.model.train()
        self.optimizer.zero_grad()
        total: Scalar = 0.0
        for micro, (batch, _) in enumerate(loaded):
            loss = self.loss_of(step, micro, batch, grad_scale=1.0 / max(n_targets, 1))
            total = loss.data.astype(np.float64) + total
            self.backward(loss, np.asarray(1.0 / n_targets, loss.dtype))

        mean, grad_norm = total / n_targets, self.optimizer.grad_norm()
        if self.on_host:
            mean, grad_norm = self._finite(step, mean, grad_norm)
        else:  # once NaN, always NaN: after a bad step the ones behind it change nothing either
            self._nonfinite = 0.0 * (grad_norm + mean) + self._nonfinite
        self.optimizer.step(norm=grad_norm + self._nonfinite, max_norm=self.config.grad_clip)
        self.scheduler.step()
        self.step = step
        return mean, grad_norm

    def loss_of(self, step: int, micro: int, batch: Batch | None = None, grad_scale: float = 1.0) -> Tensor:
        """The summed loss of one micro-batch of a step, made with the weights as they are; always the same.

        grad_scale: the upstream gradient that backward will begin with, which saves time, see `logits_or_loss`.
        """
        ids, targets = batch or self._batch(step, micro)
        random.seek(self.config.seed, step, micro)
        return self.model(ids, targets, ignore_index=IGNORE_INDEX, reduction="sum", grad_scale=grad_scale)

    def _batch(self, step: int, micro: int) -> Batch:
        """Any batch, on the host."""
        return self.train_dataset.batch(self._number(step, micro), self.config.batch_size, self.config.seed)

    def _number(self, step: int, micro: int) -> int:
        """The number of a micro-batch in the dataset."""
        return micro if self.config.overfit_one_batch else (step - 1) * self.config.grad_accumulation_steps + micro

    def _new_loader(self) -> Loader:
        config = self.config
        return Loader(
            self.train_dataset, config.batch_size, config.seed,
            num_workers=0 if config.overfit_one_batch else config.num_workers,
            prefetch=config.grad_accumulation_steps, device=config.device, vocab_size=self.model.config.vocab_size,
        )  # fmt: skip

    def _finite(self, step: int, loss: Scalar, grad_norm: Scalar) -> tuple[float, float]:
        """Both as floats. FloatingPointError if one is not finite."""
        loss, grad_norm = float(loss), float(grad_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise FloatingPointError(self._diverged(step, loss, grad_norm))
        return loss, grad_norm

    def _diverged(self, step: int, loss: float, grad_norm: float) -> str:
        grads = [(name, p.grad) for name, p in self.optimizer.named_parameters() if p.grad is not None]
        bad = [name for name, grad in grads if not np.isfinite(on_host(grad)).all()]
        where = f"; the gradient of {bad[0]} is not finite" if bad else ""
        return (
            f"loss {loss} with gradient norm {grad_norm} at step {step}{where}; the weights are still those of step "
            f"{step - 1}; try a lower learning_rate or a longer warm-up\n{explain_nonfinite(self, step)}"
        )

    # ------------------------------------------------------------------------ looking at the model

    def evaluate(self) -> float:
        """The loss of `evaluation`."""
        return self.evaluation().loss

    def evaluation(self) -> Evaluation:
        """The Evaluation over the validation text: each target once, or about config.eval_tokens of them."""
        if self.val_dataset is None:
            raise ValueError("there is no validation text; give the Trainer a val_dataset")
        rows = max(1, EVAL_TOKENS // self.val_dataset.seq_len)
        return evaluate(self.model, self.val_dataset, rows, self.config.eval_tokens)

    def sample(self) -> str:
        """A piece of text from the model, the same for the same weights and step."""
        stream = self.train_dataset.tokenizer.stream()
        random.seek(self.config.seed, self.step, _SAMPLING)
        prompt = self.train_dataset.tokens[:1].astype(np.int64)
        new = generate(self.model, prompt, self.config.sample_tokens, random.generator(), temperature=0.8)
        return "".join(stream.feed(id) for id in (*prompt.tolist(), *new))  # without half a character at the end

    # ------------------------------------------------------------------------- what is due after a step

    def _is_due(self) -> bool:
        """Whether this step ends with something that has to know how it went."""
        step, config = self.step, self.config
        intervals = (config.log_interval, config.eval_interval, config.save_interval)
        return step in (1, self.total_steps) or any(step % n == 0 for n in intervals) or bool(self.stopped_by)

    def _sync_results(self, loss: Scalar, grad_norm: Scalar) -> tuple[float, float]:
        """The loss and norm of the last step as floats. FloatingPointError if a step since the last time went bad.

        Then the steps after it changed nothing, and the Trainer stands again before the first bad one.
        """
        if self.on_host:
            return float(loss), float(grad_norm)
        taken = self.optimizer.steps_taken()
        if taken < self.step:
            self.step, self._nonfinite = taken, 0.0
            self.scheduler.seek(taken)
            self._finite(taken + 1, loss, math.nan)
        return float(loss), float(grad_norm)

    def _report(self, loss: float, grad_norm: float, learning_rate: float) -> None:
        """A line of metrics, an evaluation, checkpoints, and last what only shows how it goes.

        A run killed before its checkpoint resumes further back and does all of this again; one killed after it
        draws the picture when it resumes. So nothing here can cost the run.
        """
        step, config, last = self.step, self.config, self.step == self.total_steps
        now, before = time.perf_counter(), self._reported
        tokens_per_second = (step - before[0]) * self.samples_per_step * self.train_dataset.seq_len / (now - before[1])
        self.progress.step(step, loss, learning_rate, grad_norm, tokens_per_second)
        if step == 1 or step % config.log_interval == 0 or last:
            elapsed = time.perf_counter() - self._clock
            self._log({
                "kind": "train", "step": step, "loss": loss, "perplexity": perplexity(loss), "lr": learning_rate,
                "grad_norm": grad_norm, "tokens_per_second": tokens_per_second, "elapsed_seconds": elapsed,
            })  # fmt: skip
        improved = self._is_eval_step() and self._log_evaluation()
        if self.run and improved:
            self._save(self.run, self.run.best)
        if self.run and (step % config.save_interval == 0 or last):
            self._save(self.run, self.run.latest)
        if self._is_eval_step():
            self._write_sample_and_plot()
        self._reported = step, time.perf_counter()

    def _is_eval_step(self) -> bool:
        due = self.step % self.config.eval_interval == 0 or self.step == self.total_steps
        return self.val_dataset is not None and self.step > 0 and due

    def _log(self, row: Row) -> None:
        with self.progress.attempt(METRICS):
            self.metrics.append(row)
        self.progress.log(row)

    def _log_evaluation(self) -> bool:
        """Evaluate. Returns whether the model is the best so far. FloatingPointError if its loss is not finite."""
        self.evaluated = self.evaluation()
        val_loss, bits_per_byte = self.evaluated.loss, self.evaluated.bits_per_byte
        if not math.isfinite(val_loss):
            raise FloatingPointError(f"validation loss {val_loss} at step {self.step}; try a lower learning_rate")
        row = {"kind": "eval", "step": self.step, "val_loss": val_loss, "val_perplexity": perplexity(val_loss)}
        self._log(row if bits_per_byte is None else {**row, "val_bits_per_byte": bits_per_byte})
        improved = val_loss < self.best_val_loss
        self.best_val_loss = min(val_loss, self.best_val_loss)
        return improved

    def _write_sample_and_plot(self) -> None:
        """A sample of text, and the picture redrawn. If a part of this fails the run goes on without it."""
        text = None
        with self.progress.attempt("the sample"):
            text = self.sample() if self.config.sample_tokens else None
        if text:
            self.progress.sample(text)
        if not self.run or not self.run.path.is_dir():  # deleted: it must not come back without its config
            return
        if text:
            with self.progress.attempt("samples"), replacing(self.run.sample(self.step)) as partial:
                partial.write_text(text, encoding="utf-8")
        with self.progress.attempt("loss.png"):
            draw_metrics(self.metrics, self.run.plot)

    # ---------------------------------------------------------------------------- save and resume

    def _save(self, run: Run, path: Path) -> None:
        """`save_checkpoint` into the run. An OSError, which ends it, names the last good checkpoint."""
        with self.progress.attempt(METRICS):
            self.metrics.flush()  # what is resumed from here does not write these rows again
        try:
            if not run.path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the run's folder is gone", str(run.path))
            self.save_checkpoint(path)
        except OSError as error:
            error.filename = str(path)
            saved, step = self._saved
            good = f"the last good checkpoint is {saved}, of step {step}" if saved else "no checkpoint was written yet"
            error.add_note(good if not saved or saved.exists() else f"{saved} is gone too")
            raise
        self._saved = path, self.step

    def save_checkpoint(self, path: StrPath, check_logits: bool = True) -> None:
        """Write all that training needs to go on from here, bit for bit, as one file.

        Raises FloatingPointError, with nothing written, if weights, moments or logits are not finite. check_logits:
        False for the state before a bad step, whose logits may not be.
        """
        state = self.optimizer.state_dict()
        arrays = {checkpoint.MODEL + name: on_host(array) for name, array in self.model.state_dict().items()}
        arrays |= {f"adamw.{moment}.{name}": array for moment in ("m", "v") for name, array in state[moment].items()}
        problem = not_finite(arrays)
        if not problem and check_logits and not logits_are_finite(self.model):
            problem = "the logits are not finite"
        if problem:
            raise FloatingPointError(f"step {self.step} is not saved: {problem}; try a lower learning_rate")
        checkpoint.save(path, arrays, {
            "step": self.step,
            "best_val_loss": self.best_val_loss if math.isfinite(self.best_val_loss) else None,
            "model": dataclasses.asdict(self.model.config),
            "training": dataclasses.asdict(self.config),
            "tokenizer": self.train_dataset.tokenizer.to_json(),
            "data": self._data_digests(),
            "adamw_steps": state["step"],
            "versions": {
                "tiny_transformer_np": __version__, "python": platform.python_version(), "numpy": np.__version__,
            },
        })  # fmt: skip

    def load_checkpoint(self, path: StrPath) -> None:
        """Take up weights, optimizer and step from a checkpoint.

        ConfigError if it is damaged, or was made by another model, tokenizer or data; then nothing has changed.
        """
        self.restore(path, *checkpoint.load(path))

    def restore(self, path: StrPath, arrays: Arrays, meta: Meta) -> None:
        """`load_checkpoint` from what was read already."""
        checkpoint.require(path, arrays, meta)
        self._require_same(path, arrays, meta)
        checkpoint.load_weights(self.model, arrays, path)
        names = [name for name, _ in self.optimizer.named_parameters()]
        self.optimizer.load_state_dict({
            "step": meta["adamw_steps"],
            "m": {name: arrays[f"adamw.m.{name}"] for name in names},
            "v": {name: arrays[f"adamw.v.{name}"] for name in names},
        })  # fmt: skip
        self.step = meta["step"]
        self.best_val_loss = math.inf if meta["best_val_loss"] is None else meta["best_val_loss"]
        self.scheduler.seek(self.step)
        self._saved = Path(path), self.step

    def _require_same(self, path: StrPath, arrays: Arrays, meta: Meta) -> None:
        paths = self.identity.paths if self.identity else ()
        if changed := changed_data(meta, self._data_digests(), paths, self.train_dataset.tokenizer, self.config):
            raise ConfigError(f"checkpoint {path} {changed}")
        own, other = (dataclasses.asdict(config) for config in (self.model.config, schema.configs(meta)[0]))
        differing = [f"{key} {other[key]} (here {own[key]})" for key in own if other[key] != own[key]]
        for name, parameter in self.model.named_parameters():
            if (dtype := arrays[checkpoint.MODEL + name].dtype) != parameter.dtype and not differing:
                differing = [f"{name} {dtype} (here {parameter.dtype})"]
        if differing:
            raise ConfigError(f"checkpoint {path} is of another model: {', '.join(differing)}")

    def _data_digests(self) -> Meta:
        if self.identity:
            return self.identity.digests()
        return {"train": self.train_dataset.digest(), "val": self.val_dataset.digest() if self.val_dataset else None}

    def _stop(self, number: signal.Signals) -> None:
        self.stopped_by = number
        self.progress.say(f"{number.name}: stopping after this step")
