"""Lines of output stay whole, even if a signal handler prints in the middle of a write."""

import errno
import io
import sys

import pytest

from tiny_transformer_np.training.progress import Progress


class Interrupted(io.RawIOBase):
    """A file; in the middle of the first write to it after `handler` is set, that is called, as a signal would."""

    def __init__(self, terminal):
        self.terminal, self.handler, self.written = terminal, None, b""

    def writable(self):
        return True

    def isatty(self):
        return self.terminal

    def write(self, data):
        self.written += bytes(data)
        if self.handler:
            handler, self.handler = self.handler, None
            handler()
        return len(data)


@pytest.mark.parametrize(
    "terminal, during", [(False, "a line"), (True, "a line"), (True, "a step"), (True, "the end of the bar")]
)
def test_a_handler_speaks_in_the_middle_of_a_write(terminal, during):
    raw = Interrupted(terminal)
    progress = Progress(stream=io.TextIOWrapper(io.BufferedWriter(raw), write_through=True))
    with progress.running(0, 10):
        raw.handler = lambda: progress.say("stopping")
        if during == "a line":
            progress.say("step 9")
        elif during == "a step":
            progress.step(10, 1.0, 1e-3, 1.0, 100.0)
    progress.say("the last")
    shown = raw.written.decode()
    assert shown.count("stopping") == 1 and shown.endswith("the last\n")
    assert during != "a line" or shown.index("step 9") < shown.index("stopping")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_no_control_characters_of_a_sample(terminal):
    raw = Interrupted(terminal)
    Progress(stream=io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", write_through=True)).sample("a\x1b[2Jb\nc")
    assert raw.written.decode().split() == ["|", r"a\x1b[2Jb" if terminal else "a\x1b[2Jb", "|", "c"]


class Refusing(io.StringIO):
    """A stream on which every write fails, by `error`, until it is None."""

    error = None

    def write(self, text):
        if self.error:
            raise self.error
        return super().write(text)


def test_a_stream_that_refuses_is_told_of_once_and_tried_again(capsys):
    stream = Refusing()
    progress = Progress(stream=stream)
    progress.say("one")
    stream.error = OSError(errno.ENOSPC, "No space left on device")
    progress.say("two")
    progress.say("three")
    stream.error = None
    progress.say("four")
    assert stream.getvalue() == "one\nfour\n"
    assert capsys.readouterr().err == "warning: standard output: No space left on device; the run goes on\n"


def test_a_reader_that_went_away_is_let_alone(capsys):
    stream = Refusing()
    stream.error = BrokenPipeError(errno.EPIPE, "Broken pipe")
    progress = Progress(stream=stream)
    progress.say("one")
    stream.error = None
    progress.say("two")
    assert stream.getvalue() == "" and capsys.readouterr().err.count("\n") == 1


def test_each_kind_of_failure_is_told_of_once_and_in_one_line(capsys):
    progress = Progress(quiet=True)
    for _ in range(3):
        for what in ("loss.png", "the sample"):
            with progress.attempt(what):
                raise ZeroDivisionError("two\nlines")
    with pytest.raises(KeyboardInterrupt), progress.attempt("loss.png"):
        raise KeyboardInterrupt
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.splitlines() == [
        f"warning: {what}: ZeroDivisionError: two lines; the run goes on" for what in ("loss.png", "the sample")
    ]


def test_where_there_is_no_bar_there_are_lines(monkeypatch, capsys):
    """tqdm itself fails where its settings in the environment make no sense."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    progress = Progress(stream=io.TextIOWrapper(io.BufferedWriter(raw := Interrupted(terminal=True))))
    with progress.running(0, 10):
        progress.say("a line")
    assert raw.written == b"a line\n" and capsys.readouterr().err.startswith("warning: standard output: ")
