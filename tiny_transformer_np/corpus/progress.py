"""How far the reading of a corpus is, for whoever shows it."""

from typing import Protocol


class Progress(Protocol):
    """Shows how far the work is. A failure in it must not raise."""

    def begin(self, what: str, total: int, done: int) -> None:
        """A part of the work begins, `what` as "tokens"; total: bytes that it reads, of which `done` were read."""

    def advance(self, n: int) -> None:
        """n bytes more."""

    def end(self) -> None:
        """The part is done, or has failed."""


class Silent:
    """Shows nothing."""

    def begin(self, what: str, total: int, done: int) -> None:
        pass

    def advance(self, n: int) -> None:
        pass

    def end(self) -> None:
        pass
