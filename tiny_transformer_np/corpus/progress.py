"""How far the reading of a corpus is."""

from typing import Protocol


class Progress(Protocol):
    """Shows how far the work is. A failure in it must not raise."""

    def begin(self, what: str, total: int, done: int) -> None:
        """A part of the work begins, `what` as "tokens"; total: bytes that it reads, of which `done` were read."""

    def advance(self, n: int) -> None:
        """n bytes more."""

    def end(self) -> None:
        """The part is done, or has failed."""


class Reading:
    """Called with numbers of bytes of text, it advances a Progress by `size` at most, which `end` completes.

    A packed file gives more text than it has bytes on disk, others may give less.
    """

    def __init__(self, progress: Progress, size: int) -> None:
        self._progress, self._left = progress, size

    def __call__(self, n: int) -> None:
        n = min(n, self._left)
        self._left -= n
        self._progress.advance(n)

    def end(self) -> None:
        self(self._left)


class Checking:
    """Shows how far the reading of files is whose checksums are not known yet; `open_corpus` calls it."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self, done: int, total: int) -> None:
        if not self._done:
            self._progress.begin("checksums", total, 0)
        self._progress.advance(done - self._done)
        self._done = done
        if done >= total:
            self._progress.end()
            self._done = 0


class Silent:
    """Shows nothing."""

    def begin(self, what: str, total: int, done: int) -> None:
        pass

    def advance(self, n: int) -> None:
        pass

    def end(self) -> None:
        pass
