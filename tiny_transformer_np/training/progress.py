"""The output of a run: a progress bar on a terminal, lines elsewhere. A failure here never ends the run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from kernels.system import cli, streams
from kernels.system.printable import one_line, shown
from tiny_transformer_np.training.metrics import Row

_LINES_EVERY = 10.0  # seconds between two lines on the reading of data where there is no terminal


def _bar(total: int, initial: int, stream: TextIO, unit: str, **options: Any) -> Any:
    from tqdm import tqdm  # here, since the import fails if TQDM_NCOLS is not a number

    class Bar(tqdm):
        monitor_interval = 0  # no monitor thread

        def close(self) -> None:
            if hasattr(self, "start_t"):  # else the first display failed, and an old tqdm fails here too
                super().close()

    return Bar(total=total, initial=initial, unit=unit, file=stream, dynamic_ncols=True, **options)


class Progress:
    """The Trainer calls it after each step. `quiet` shows only warnings.

    If a stream refuses output, stderr says so once. After a broken pipe nothing more is written; after any other
    error, a full disk for instance, the next line is tried.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.quiet = quiet or self.stream is None
        self.bar = None
        self._writing = False
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._warned: set[str] = set()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A context in which an exception becomes a warning, once for each `what`: output must not end the run."""
        try:
            yield
        except Exception as error:
            self._warn(what, error)

    @contextmanager
    def running(self, step: int, total_steps: int) -> Iterator[None]:
        """Around the training loop."""
        self.total_steps, self._first_step, self._started = total_steps, step, time.perf_counter()
        with self.attempt("standard output"):
            if not self.quiet and self.stream.isatty():
                self.bar = _bar(total_steps, step, self.stream, "step")
        try:
            yield
        finally:
            if self.bar is not None:
                self._write(self.bar.close)
                self.bar = None

    def step(self, step: int, loss: float, learning_rate: float, grad_norm: float, tokens_per_second: float) -> None:
        """Called after every step; on a device after those whose results are read."""
        if self.bar is not None:
            rates = f"grad norm {grad_norm:.2f}, {tokens_per_second:,.0f} tokens/s"
            self.bar.set_postfix_str(f"loss {loss:.3f}, lr {learning_rate:.1e}, {rates}", refresh=False)
            self._write(self.bar.update, step - self.bar.n)

    def log(self, row: Row) -> None:
        """A row of metrics."""
        if self.quiet:
            return
        if row["kind"] == "eval":
            loss, perplexity = row["val_loss"], row["val_perplexity"]
            bits = f", {row['val_bits_per_byte']:.4f} bits per byte" if "val_bits_per_byte" in row else ""
            self.say(f"step {row['step']}: validation loss {loss:.4f}, perplexity {perplexity:.2f}{bits}")
        elif self.bar is None:  # the bar shows the loss
            done = row["step"] - self._first_step
            left = (time.perf_counter() - self._started) / done * (self.total_steps - row["step"])
            self.say(
                f"step {row['step']}/{self.total_steps}  loss {row['loss']:.4f}  lr {row['lr']:.2e}  "
                f"grad norm {row['grad_norm']:.2f}  {row['tokens_per_second']:,.0f} tokens/s  {clock(left)} left"
            )

    def sample(self, text: str) -> None:
        """A piece of generated text, indented."""
        self.say("\n".join("    | " + line for line in text.split("\n")))

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one. Signal handlers may call it."""
        if not self.quiet:
            self._write(self._print, line)

    def _print(self, line: str) -> None:
        line = shown(line, self.stream)  # a sample may contain control characters
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def _write(self, write: Callable[..., object], *args: Any) -> None:
        """write(*args); in a signal handler that interrupts a write, after that write: streams are not reentrant."""
        self._waiting.append((write, args))
        if self._writing:
            return
        self._writing = True
        try:
            while self._waiting:
                write, args = self._waiting.pop(0)
                with self.attempt("standard output"):
                    write(*args)
        finally:
            self._writing = False

    def _warn(self, what: str, error: Exception) -> None:
        if isinstance(error, BrokenPipeError) and what == "standard output":
            self.quiet, self.bar = True, None
            streams.let_go(self.stream)
        if what in self._warned:
            return
        self._warned.add(what)
        with suppress(Exception):
            if self.bar is not None:
                self.bar.clear()
        reason = cli.describe(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        streams.note(one_line(f"warning: {what}: {reason}; the run goes on"))


class ByteProgress:
    """Shows on stderr how many bytes of data were read: a bar on a terminal, elsewhere a line every few seconds.

    See `corpus.progress.Progress`.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._first, self._done = f"{what:9}", total, done, done
        self._started = self._said = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty() and total:
            with suppress(Exception):
                self._bar = _bar(total, done, sys.stderr, "B", desc=self._what, unit_scale=True)

    def advance(self, n: int) -> None:
        self._done += n
        if self._bar is not None:
            try:
                self._bar.update(n)
            except Exception:
                self._bar = None
        elif (now := time.monotonic()) - self._said >= _LINES_EVERY:
            self._said = now
            rate = (self._done - self._first) / (now - self._started)
            left = f", {clock((self._total - self._done) / rate)} left" if rate else ""
            done, total = self._done / 1e6, self._total / 1e6
            streams.note(f"{self._what}  {done:,.0f} of {total:,.0f} MB, {rate / 1e6:.1f} MB/s{left}")

    def end(self) -> None:
        if self._bar is not None:
            with suppress(Exception):
                self._bar.close()
        self._bar = None


def clock(seconds: float) -> str:
    """A duration as minutes:seconds, or hours:minutes:seconds."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
