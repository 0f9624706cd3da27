"""Train a transformer language model: `python train.py`, or `minigrad-train` where the package is installed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import shlex
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from kernels.system import cli, streams
from kernels.system.signals import asking_to_stop
from tiny_transformer_np.config import ConfigError, TrainingConfig, TransformerConfig, find_config, load_toml
from tiny_transformer_np.training.arguments import PROG, Settings, absolute_paths, command, parse_arguments

if TYPE_CHECKING:  # imported where they are used, or not at all: --help is answered at once
    from tiny_transformer_np.training.dataset import TextDataset
    from tiny_transformer_np.training.memory import Estimate
    from tiny_transformer_np.training.run_folder import Found, Run
    from tiny_transformer_np.training.trainer import Trainer

LOOKED_AT = 100_000  # tokens whose bytes are counted for the summary

Result = TypeVar("Result")
Job: TypeAlias = "tuple[Run, Settings, TrainingConfig, Found | None]"  # of `new_job` and `resumed_job`


@cli.command_line(PROG)
def main() -> int:
    """Train as the arguments of this process say. Returns the exit status."""
    args = parse_arguments()
    if args.post_mortem and (args.resume or args.preflight or args.step_backward):
        raise ConfigError("--post-mortem replays a saved state and trains nothing; give it alone")
    args.resume = args.resume or args.post_mortem
    resuming = args.resume is not None
    if args.preflight and (resuming or args.no_preflight):
        raise ConfigError("--preflight checks a run before its first step; leave out --resume and --no-preflight")
    # SIGTERM and SIGHUP raise, as Ctrl-C does, so that a folder that was only claimed is removed again; later they save
    with asking_to_stop(lambda number: sys.exit(128 + number), ("SIGTERM", "SIGHUP")), contextlib.ExitStack() as claims:
        return train(args, *(resumed_job(args, claims) if resuming else new_job(args, claims)))


def train(
    args: argparse.Namespace, run: Run, model_config: Settings, config: TrainingConfig, checkpoint: Found | None
) -> int:
    """Train the job that `new_job` or `resumed_job` returned, or do what `args` asks for instead. The exit status."""
    resuming = args.resume is not None
    if args.step_backward:
        config = dataclasses.replace(config, kernels=args.stepped_kernels)

    # imported only now, so that --help and mistakes are answered at once
    import kernels
    from minigrad import runtime
    from tiny_transformer_np.training.build_trainer import build_trainer
    from tiny_transformer_np.training.checkpoint import require_finite_logits
    from tiny_transformer_np.training.compile_ahead import prepare_kernels
    from tiny_transformer_np.training.diagnosis import post_mortem, step_backward
    from tiny_transformer_np.training.progress import Progress

    runtime.require(config.device)
    kernels.select(config.kernels)
    threads = runtime.configure(config.device, config.threads)
    precision = runtime.set_matmul_precision(config.dtype, config.device)
    if precision != config.dtype:
        cli.complain(PROG, f"this processor has no instruction for {config.dtype} products; {precision} is used")
    needed = MemoryCheck(args, model_config, config, resumed=checkpoint is not None)
    shown_in = None if args.step_backward else run
    made_with = checkpoint[2] if checkpoint else None
    trainer = build_trainer(model_config, config, shown_in, Progress(), needed, made_with)
    if checkpoint:
        trainer.restore(*checkpoint)
        if trainer.step > trainer.total_steps:
            raise ConfigError(f"max_steps {trainer.total_steps} is below step {trainer.step}, where the run stands")
    if args.no_steps:
        print(f"--max-steps 0: nothing to train; {run.path} stays at step {trainer.step} of {trainer.total_steps}")
        return 0
    prepare_kernels(trainer)
    if args.post_mortem:
        return 0 if post_mortem(trainer) else 1
    if args.step_backward:
        exit_on_failure(step_backward, trainer, args.at_step, args.break_on)
        return 0
    if not resuming and not args.no_preflight:
        passed = preflight_passed(trainer, whole=args.preflight)
        if args.preflight or not passed:
            return 0 if passed else 1
    if resuming:
        if checkpoint:
            require_finite_logits(checkpoint[0], trainer.model)
            checkpoint[1].clear()  # the trainer has copies; these would take memory for as long as it trains
        run.clean()
        run.write_config(trainer.model.config, config)
    else:
        run.create(trainer.model.config, config)

    trainer.progress.say(describe(trainer, run, kernels.describe(), threads, precision, needed.estimate))
    return finish(trainer, run, exit_on_failure(trainer.train))


class MemoryCheck:
    """Compares the memory that a run needs with what is available: from its settings, and once more when called.

    Made with the settings, ConfigError if the run certainly needs too much. Called with the TransformerConfig and the
    numbers of tokens to train on and to validate, once they are known, it also warns, and `estimate` is exact.
    """

    def __init__(
        self, args: argparse.Namespace, model_settings: Settings, config: TrainingConfig, resumed: bool
    ) -> None:
        self.config, self.resumed, self.checked = config, resumed, not args.no_memory_check
        self.preflight = "none" if resumed or args.no_preflight else "whole" if args.preflight else "usual"
        least = {**model_settings, "vocab_size": 1, "block_size": config.seq_len}
        self._warning(TransformerConfig(**least), (0, 0))

    def __call__(self, model: TransformerConfig, n_tokens: tuple[int, int]) -> None:
        if warning := self._warning(model, n_tokens):
            cli.complain(PROG, f"warning: {warning}")

    def _warning(self, model: TransformerConfig, n_tokens: tuple[int, int]) -> str | None:
        from tiny_transformer_np.training import memory

        self.estimate = memory.of_run(model, self.config, n_tokens, self.preflight, self.resumed)
        return memory.require(self.estimate, self.config.device, self.checked)


def exit_on_failure(training: Callable[..., Result], *args: Any) -> Result:
    """training(*args). Where numbers are not finite or a check fails: one line on stderr and exit status 1."""
    from minigrad.debug import VerificationError

    try:
        return training(*args)
    except (FloatingPointError, VerificationError) as error:
        cli.complain(PROG, error)
        sys.exit(1)


def preflight_passed(trainer: Trainer, whole: bool) -> bool:
    """Whether all preflight checks pass. Failures go to stderr."""
    from tiny_transformer_np.training.preflight import preflight

    failures = preflight(trainer, whole, say=trainer.progress.say)
    for name, explanation in failures:
        cli.complain(PROG, f"preflight, {name}: {explanation}")
    if failures:
        cli.complain(PROG, "not started, nothing was written; --no-preflight trains all the same")
    return not failures


def finish(trainer: Trainer, run: Run, finished: bool) -> int:
    """Print the paths of the results, or the command that resumes. Returns the exit status."""
    say = trainer.progress.say
    if finished:
        best = trainer.evaluated and trainer.evaluated._replace(loss=trainer.best_val_loss).bits_per_byte
        in_bits = f", {best:.4f} bits per byte" if best else ""
        say(f"finished at step {trainer.step}: best validation loss {trainer.best_val_loss:.4f}{in_bits}")
        say(f"    {run.plot}\n    {run.best}")
        sample = cli.command("tiny_transformer_np.sampling", "minigrad-sample")
        say(f"    {sample} {shlex.quote(str(run.path))} --prompt TEXT")
    else:
        say(f"stopped at step {trainer.step} of {trainer.total_steps}, checkpoint saved; go on with:")
        say(f"    {command()} --resume {shlex.quote(str(run.path))}")
    streams.let_go(sys.stdout)  # an error here does not make the run a failure
    return 0 if finished else 128 + (trainer.stopped_by or signal.SIGINT)


def describe(trainer: Trainer, run: Run, kernel_set: str, threads: int, precision: str, estimate: Estimate) -> str:
    """A summary of the run to come, in a few lines."""
    from tiny_transformer_np.training import memory

    config, model, data, val = trainer.config, trainer.model, trainer.train_dataset, trainer.val_dataset
    n_validation = len(val.tokens) if val else 0
    done = f", from step {trainer.step}" if trainer.step else ""
    rounded = "" if precision == "float32" else f", matrix products of {precision} numbers"
    lines = [
        f"run       {run.path}",
        f"data      {len(data.tokens):,} tokens to train on, {n_validation:,} to validate, {vocabulary(data)}",
        f"model     {model.num_parameters():,} parameters: {model.config.n_layer} layers, {model.config.n_head} heads, "
        f"{model.config.n_embd} wide, context {model.config.block_size}",
        f"training  {trainer.total_steps} steps of {trainer.samples_per_step} x {data.seq_len} tokens{done}",
        f"memory    {memory.describe(estimate)}",
        f"device    {config.device}, {threads} threads, kernels: {kernel_set}{rounded}",
    ]
    if val and (n_targets := val.n_targets(config.eval_tokens)) < val.n_targets():
        limit = f"validates on {n_targets:,} of {n_validation:,} tokens, in windows spread evenly"
        lines.insert(2, f"          {limit}; best means best on those")
    if config.device != "cpu" and kernel_set == "reference":
        lines.append("warning: kernels reference: array formulas are computed, none of the CUDA kernels runs")
    if config.warmup_steps >= trainer.total_steps:
        lines.append(f"warning: warmup_steps {config.warmup_steps} is as long as the run: the learning rate only rises")
    return "\n".join(lines)


def vocabulary(data: TextDataset) -> str:
    """`vocabulary 4,096 (bpe, 3.41 bytes a token)`, as in the beginning of the text."""
    tokenizer = data.tokenizer
    n_bytes = tokenizer.bytes_per_token()[data.tokens[:LOOKED_AT]].mean()
    length = f", {n_bytes:.2f} bytes a token" if n_bytes else ""  # not known of ids
    return f"vocabulary {tokenizer.vocab_size:,} ({tokenizer.kind}{length})"


def new_job(args: argparse.Namespace, claims: contextlib.ExitStack) -> Job:
    """(run, model settings, TrainingConfig, None) from a config file and flags; flags override it."""
    from tiny_transformer_np.training.run_folder import Run, default_run

    path = find_config(args.config or "default")
    tables = load_toml(path)
    config = TrainingConfig(**absolute_paths({**tables["training"], **device_kernels(args), **args.training}))
    if config.kernels != tables["training"].get("kernels", config.kernels) and "kernels" not in args.training:
        cli.complain(
            PROG, f"--device {config.device}: its own kernels are used; --kernels reference takes the reference kernels"
        )
    model_config = {**tables["model"], **args.model}
    TransformerConfig(**model_config)  # a bad shape is refused before any data is read
    if args.step_backward:
        run = Run("runs")  # of which nothing is written
    elif args.out_dir:
        run = Run(args.out_dir)
        run.require_unused()
        claims.enter_context(run.claimed())
        run.require_unused()  # nor has another process used it just before
    else:
        run = default_run(claims, path.stem, datetime.datetime.now())
    return run, model_config, config, None


def resumed_job(args: argparse.Namespace, claims: contextlib.ExitStack) -> Job:
    """(run, model settings, TrainingConfig, checkpoint) of a run on disk; few settings may change."""
    from tiny_transformer_np.training import checkpoint
    from tiny_transformer_np.training.run_folder import changed, find, require_trained_with, stored_configs

    if args.config or args.out_dir:
        raise ConfigError("--resume goes on in the run's own folder and config; leave out --config and --out-dir")
    run, chosen = find(args.resume)
    if not (args.step_backward or args.post_mortem):  # they only read
        claims.enter_context(run.claimed())
    configs = stored_configs(run)
    found = (chosen, *checkpoint.load(chosen)) if chosen else run.newest()
    if found:
        require_trained_with(run, configs, found)
    model_config, config = configs
    changed(model_config, args.model)
    config = changed(config, absolute_paths(args.training))
    return run, dataclasses.asdict(model_config), config, found


def device_kernels(args: argparse.Namespace) -> Settings:
    """--device selects the device's kernels, even if the config has kernels = reference."""
    return {"kernels": "fast"} if args.training.get("device", "cpu") != "cpu" else {}


if __name__ == "__main__":
    sys.exit(main())
