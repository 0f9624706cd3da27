"""Batches by number, the next ones fetched ahead by threads.

A batch is a function of the seed and its number, so the number of threads changes no bit, and any batch can be asked
for at any time: after one that does not follow on the last, the threads begin anew from there.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda.uploads import Uploads
from minigrad import runtime
from minigrad.ops.checks import CheckedIds
from tiny_transformer_np.config import ConfigError
from tiny_transformer_np.training.dataset import IGNORE_INDEX, Batch, TextDataset

PREFETCH_FACTOR = 2  # batches that are ready or on their way, for each thread, as in PyTorch's DataLoader
_SECONDS = 2.0  # for which closing waits for a thread that is reading; such a thread does not keep the process alive


def batches_ahead(num_workers: int, least: int) -> int:
    """How many batches are ready or on their way at most."""
    return max(PREFETCH_FACTOR * num_workers, least) if num_workers else 0


class Loaded(NamedTuple):
    """A batch for the model, and its number of targets that count. On a device its arrays are CheckedIds."""

    batch: Any
    n_targets: int


class Loader:
    """The batches of a TextDataset.

    dataset, batch_size, seed: of `TextDataset.batch`; num_workers: threads, 0 for none: then `batch` makes the batch
    itself; prefetch: how many batches there are ahead at least; device: where threads put what they fetch, "cpu" for
    nowhere; vocab_size: the ids that the model takes there.

    On a device the ids are checked on the host, by the thread that fetched them, and copied on a stream of their own.
    """

    def __init__(
        self,
        dataset: TextDataset,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        prefetch: int = 1,
        device: str = "cpu",
        vocab_size: int = 0,
    ) -> None:
        self.dataset, self.num_workers = dataset, num_workers
        self._batch_size, self._seed, self._device, self._vocab_size = batch_size, seed, device, vocab_size
        self._ahead = batches_ahead(num_workers, prefetch)
        self._queue: _Queue | None = None
        self._finalizer: weakref.finalize | None = None

    def batch(self, number: int) -> Loaded:
        """The `number`-th batch. Raises what the thread that fetched it raised, with its traceback."""
        if not self.num_workers:
            return self._fetch(number)
        if self._queue is None or self._queue.process != os.getpid():  # a forked process has none of the threads
            self._start(number)
        assert self._queue is not None
        return self._queue.get(number)

    def use(self, dataset: TextDataset) -> None:
        """Take batches from this dataset from now on."""
        if dataset is not self.dataset:
            self.close()
            self.dataset = dataset

    def close(self) -> None:
        """End the threads. `batch` starts them again."""
        if self._finalizer:
            self._finalizer()
        self._queue = self._finalizer = None

    def _fetch(self, number: int) -> Loaded:
        return _fetch(self.dataset, self._batch_size, self._seed, number)

    def _start(self, number: int) -> None:
        """Start the threads. They know nothing of this object: when it is collected, they end."""
        dataset, batch_size, seed, n = self.dataset, self._batch_size, self._seed, self._vocab_size
        uploads = None if self._device == "cpu" else Uploads(runtime.module(self._device))

        def fetch(number: int) -> Loaded:
            loaded = _fetch(dataset, batch_size, seed, number)
            return loaded if uploads is None else Loaded(_uploaded(loaded.batch, n, uploads), loaded.n_targets)

        self._queue = _Queue(fetch, number, self._ahead)
        self._finalizer = weakref.finalize(self, _end, self._queue, uploads)
        try:
            self._queue.start(self.num_workers)
        except RuntimeError as error:
            self.close()
            wrong = f"num_workers is {self.num_workers}, but the system does not start so many threads; give fewer"
            raise ConfigError(wrong) from error


def _fetch(dataset: TextDataset, batch_size: int, seed: int, number: int) -> Loaded:
    batch = dataset.batch(number, batch_size, seed)
    return Loaded(batch, int(np.count_nonzero(batch[1] != IGNORE_INDEX)))


def _uploaded(batch: Batch, n: int, uploads: Uploads) -> tuple[CheckedIds, CheckedIds]:
    ids, targets = batch
    return (
        CheckedIds("embedding: id", ids, n, uploads.start),
        CheckedIds("cross-entropy: target", targets, n, uploads.start, IGNORE_INDEX),
    )


def _end(queue: "_Queue", uploads: Uploads | None) -> None:
    if queue.process != os.getpid():
        return  # a forked process has neither the threads nor, perhaps, the lock
    queue.close()
    if uploads is not None:
        uploads.close()


class _Queue:
    """Results of fetch(number) in order, made ahead by threads: at most `ahead` beyond the last that was asked for."""

    def __init__(self, fetch: Callable[[int], Loaded], first: int, ahead: int) -> None:
        self.process = os.getpid()
        self._fetch, self._ahead = fetch, ahead
        self._changed = threading.Condition()  # guards all of these
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._begin(first)

    def _begin(self, first: int) -> None:
        self._wanted: int | None = first  # what `get` gives next, if all goes well
        self._next, self._limit = first, first + self._ahead  # what a thread takes next; before this one it waits
        self._results: dict[int, Loaded | BaseException] = {}
        self._run = object()  # of results that belong to an earlier one nothing is kept

    def start(self, num_threads: int) -> None:
        for i in range(num_threads):
            thread = threading.Thread(target=self._work, name=f"loader {i}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def get(self, number: int) -> Loaded:
        """The result for `number`. Waits for it."""
        with self._changed:
            if number != self._wanted:
                self._begin(number)
                self._changed.notify_all()
            while number not in self._results:
                if self._closed:
                    raise RuntimeError("the Loader was closed while a batch was waited for")
                self._changed.wait(1.0)  # with a limit, Ctrl-C interrupts it on Windows too
            result = self._results.pop(number)
            if isinstance(result, BaseException):
                self._wanted, self._limit = None, number  # whatever is asked for next, the threads begin anew
                try:
                    raise result
                finally:
                    del result  # its traceback holds this frame, and this frame it
            self._wanted, self._limit = number + 1, number + 1 + self._ahead
            self._changed.notify_all()
            return result

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._closed = True
            self._results.clear()
            self._changed.notify_all()
        if threading.current_thread() in self._threads:
            return  # where the garbage collector runs that collected the Loader
        deadline = time.monotonic() + _SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._take()) is not None:
            run, number = job
            result: Loaded | BaseException
            try:
                result = self._fetch(number)
            except BaseException as error:  # whatever it is, the step that needs the batch raises it
                result = error
            with self._changed:
                if self._run is run and not self._closed:
                    self._results[number] = result
                    self._changed.notify_all()
            del result

    def _take(self) -> tuple[object, int] | None:
        """(run, number) of the next result to make, once it is below the limit; None at the end."""
        with self._changed:
            while not self._closed and self._next >= self._limit:
                self._changed.wait()
            if self._closed:
                return None
            self._next += 1
            return self._run, self._next - 1
